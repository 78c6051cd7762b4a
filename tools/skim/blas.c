#include "blas.h"

#include "report.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct blas_driver *const drivers[] = {
    [LINEAR_CLBLAST] = &blas_clblast, [LINEAR_CUBLAS] = &blas_cublas};

bool blas_fail(struct blas *blas, bool no_memory, const char *format, ...)
{
    if (*blas->error)
        return false;
    blas->no_memory = no_memory;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(blas->error, sizeof blas->error, format, arguments);
    va_end(arguments);
    return false;
}

bool blas_library(struct blas *blas, const char *const *names, const char *package,
                  const char *const *symbols, blas_function *functions, size_t count)
{
    void *library = NULL;
    const char *name = NULL;
    char all[96] = "", reason[160] = "";
    for (size_t i = 0; names[i] && !library; i++) {
        name = names[i];
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        size_t length = strlen(all);
        snprintf(all + length, sizeof all - length, "%s%s", i ? " or " : "", name);
        const char *said = library ? NULL : dlerror();
        snprintf(reason, sizeof reason, "%s", said ? said : "no reason given");
    }
    if (!library)
        return blas_fail(blas, false, "%s cannot be opened (%s); install %s", all, reason, package);
    for (size_t i = 0; i < count; i++) {
        void *symbol = dlsym(library, symbols[i]);
        if (!symbol)
            return blas_fail(blas, false, "%s has no %s; install a newer %s", name, symbols[i],
                             package);
        // ISO C cannot convert an object's address to a function's; POSIX has them alike.
        memcpy(&functions[i], &symbol, sizeof symbol);
    }
    return true;
}

// "clblast:0", or without a number while no device is open.
static report_text place_of(const struct blas *blas)
{
    return blas->device == LINEAR_ANY ? report_format("%s", blas->driver->name)
                                      : report_format("%s:%u", blas->driver->name, blas->device);
}

static int report_error(const struct blas *blas)
{
    return report_failure("--linear %s: %s%s%s; or use --linear host", place_of(blas).text,
                          blas->device_name, *blas->device_name ? ": " : "", blas->error);
}

// What is to be allocated, in bytes.
struct needs {
    uint64_t largest, matrices, x, y;
};

static bool add_product(uint64_t *sum, uint64_t count, uint64_t elements)
{
    uint64_t bytes = 0;
    return !__builtin_mul_overflow(count, elements, &bytes) &&
           !__builtin_mul_overflow(bytes, sizeof(float), &bytes) &&
           !__builtin_add_overflow(*sum, bytes, sum);
}

// The output matrix has many rows and mostly one vector at a time: of several, as many go into a
// call as there is room for.
static bool count_needs(struct blas *blas, const struct model *model, uint32_t tokens,
                        struct needs *needs)
{
    uint32_t columns = 1, rows = 1;
    bool fits = true;
    for (uint32_t i = 0; i < blas->count; i++) {
        const struct matrix *matrix = model_matrix(model, i);
        uint64_t bytes = 0;
        fits = fits && add_product(&bytes, matrix->rows, matrix->columns) &&
               !__builtin_add_overflow(needs->matrices, bytes, &needs->matrices);
        needs->largest = bytes > needs->largest ? bytes : needs->largest;
        columns = matrix->columns > columns ? matrix->columns : columns;
        if (i + 1 < blas->count)
            rows = matrix->rows > rows ? matrix->rows : rows;
    }
    uint32_t vocab = model->output.rows;
    blas->x_elements = (size_t)tokens * columns;
    blas->y_elements = (size_t)tokens * rows > vocab ? (size_t)tokens * rows : vocab;
    fits = fits && add_product(&needs->x, tokens, columns) &&
           add_product(&needs->y, 1, blas->y_elements);
    uint64_t most = needs->x > needs->y ? needs->x : needs->y;
    needs->largest = most > needs->largest ? most : needs->largest;
    return fits && !__builtin_add_overflow(needs->matrices, needs->x + needs->y, &needs->matrices);
}

static bool copy_matrix(struct blas *blas, const struct matrix *matrix, float *panel,
                        size_t panel_elements)
{
    size_t columns = matrix->columns;
    size_t most = panel_elements / columns;
    uint64_t memory = blas->matrices[matrix->index];
    for (size_t first = 0; first < matrix->rows; first += most) {
        size_t rest = matrix->rows - first;
        size_t elements = (rest < most ? rest : most) * columns;
        const char *source =
            (const char *)matrix->data + first * columns * skim_type_size(matrix->type);
        model_convert(matrix->type, source, elements, panel);
        if (!blas->driver->write(blas, memory, first * columns * sizeof *panel, panel,
                                 elements * sizeof *panel))
            return false;
    }
    return true;
}

static bool allocate(struct blas *blas, uint64_t elements, uint64_t *memory)
{
    return blas->driver->allocate(blas, elements * sizeof(float), memory);
}

static bool copy_model(struct blas *blas, const struct model *model, float *panel,
                       size_t panel_elements)
{
    bool done =
        allocate(blas, blas->x_elements, &blas->x) && allocate(blas, blas->y_elements, &blas->y);
    // All of the memory before the first copy: what does not fit is known at once.
    for (uint32_t i = 0; i < blas->count && done; i++) {
        const struct matrix *matrix = model_matrix(model, i);
        done = allocate(blas, (uint64_t)matrix->rows * matrix->columns, &blas->matrices[i]);
    }
    for (uint32_t i = 0; i < blas->count && done; i++) {
        progress_show("weights", i, blas->count);
        done = copy_matrix(blas, model_matrix(model, i), panel, panel_elements);
    }
    progress_clear();
    return done;
}

static int fill(struct blas *blas, const struct settings *settings, const struct model *model,
                uint32_t tokens, float *panel, size_t panel_elements)
{
    if (!blas->driver->open(blas, settings->linear_device))
        return report_error(blas);
    struct needs needs = {0};
    blas->count = model_matrix_count(model);
    blas->matrices = calloc(blas->count, sizeof *blas->matrices);
    if (!blas->matrices)
        return report_failure("out of memory; free some and try again");
    bool counted = count_needs(blas, model, tokens, &needs);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s (%llu bytes)", report_bytes((double)needs.matrices).text,
             (unsigned long long)needs.matrices);
    if (!counted || needs.matrices > blas->memory_bytes)
        return report_failure("--linear %s: the model's linear layers want %s in f32 and %s has "
                              "%s; use --linear host or a smaller model",
                              place_of(blas).text, counted ? wanted : "more than can be counted",
                              blas->device_name, report_bytes((double)blas->memory_bytes).text);
    if (needs.largest > blas->piece_bytes)
        return report_failure("--linear %s: the largest of the model's matrices wants %s in f32 "
                              "and %s has at most %s in one piece; use --linear host",
                              place_of(blas).text, report_bytes((double)needs.largest).text,
                              blas->device_name, report_bytes((double)blas->piece_bytes).text);
    if (copy_model(blas, model, panel, panel_elements))
        return EXIT_DONE;
    if (!blas->no_memory)
        return report_error(blas);
    return report_failure("--linear %s: out of memory on %s, where the model's linear layers want "
                          "%s in f32: %s; free some, or use --linear host",
                          place_of(blas).text, blas->device_name, wanted, blas->error);
}

int blas_open(struct blas **blas, const struct settings *settings, const struct model *model,
              uint32_t tokens, float *panel, size_t panel_elements)
{
    *blas = calloc(1, sizeof **blas);
    if (!*blas)
        return report_failure("out of memory; free some and try again");
    (*blas)->driver = drivers[settings->linear];
    (*blas)->device = settings->linear_device;
    int failed = fill(*blas, settings, model, tokens, panel, panel_elements);
    if (failed) {
        blas_close(*blas);
        *blas = NULL;
    }
    return failed;
}

void blas_close(struct blas *blas)
{
    if (!blas)
        return;
    for (uint32_t i = 0; blas->matrices && i < blas->count; i++)
        if (blas->matrices[i])
            blas->driver->release(blas, blas->matrices[i]);
    if (blas->x)
        blas->driver->release(blas, blas->x);
    if (blas->y)
        blas->driver->release(blas, blas->y);
    blas->driver->close(blas);
    free(blas->matrices);
    free(blas);
}

int blas_multiply(struct blas *blas, const struct matrix *matrix, const float *x, uint32_t tokens,
                  float *y)
{
    size_t room = blas->y_elements / matrix->rows;
    uint32_t most = room < tokens ? (uint32_t)room : tokens;
    for (uint32_t first = 0; first < tokens; first += most) {
        uint32_t rest = tokens - first;
        const struct blas_product product = {.weights = blas->matrices[matrix->index],
                                             .rows = matrix->rows,
                                             .columns = matrix->columns,
                                             .tokens = rest < most ? rest : most,
                                             .x = x + (size_t)first * matrix->columns,
                                             .y = y + (size_t)first * matrix->rows};
        if (!blas->driver->multiply(blas, &product))
            return report_error(blas);
    }
    return EXIT_DONE;
}
