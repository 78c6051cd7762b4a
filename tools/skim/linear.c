#include "linear.h"

#include "halves.h"
#include "report.h"

#include <cblas.h>
#include <stdatomic.h>
#include <stdlib.h>

// Threads take pieces of a matrix in turn, so that one that the system holds up does not hold up
// the rest.
enum { PANEL_ELEMENTS = 1 << 21, ALONE_BELOW = 1 << 16, PIECE_ELEMENTS = 1 << 16 };

// From one matrix to the next, not through the attention between them.
static const double watch_s = 30e-6;

int linear_open(struct linear *linear, uint32_t threads, uint32_t columns)
{
    *linear = (struct linear){0};
    for (skim_type type = SKIM_F32; type <= SKIM_BF16; type++)
        linear->dots[type] = dot_best(type);
    size_t elements = columns > PANEL_ELEMENTS ? columns : PANEL_ELEMENTS;
    linear->panel = malloc(elements * sizeof *linear->panel);
    linear->panel_elements = elements;
    linear->workers = workers_create(threads, watch_s);
    openblas_set_num_threads((int)threads);
    return linear->panel && linear->workers
               ? EXIT_DONE
               : report_failure("out of memory or threads; free some, or use fewer --threads");
}

int linear_move(struct linear *linear, const struct settings *settings, const struct model *model,
                uint32_t tokens)
{
    if (settings->linear == LINEAR_HOST)
        return EXIT_DONE;
    return blas_open(&linear->blas, settings, model, tokens, linear->panel, linear->panel_elements);
}

void linear_close(struct linear *linear)
{
    blas_close(linear->blas);
    workers_destroy(linear->workers);
    free(linear->panel);
    *linear = (struct linear){0};
}

// Work on some rows of a matrix, divided among the workers.
struct rows {
    const struct matrix *matrix;
    dot_function *dot;
    const char *weights;
    const float *x;
    float *target;
    uint32_t count, piece; // rows that are taken at a time
    atomic_uint next;
};

static bool take_piece(struct rows *rows, uint32_t *first, uint32_t *end)
{
    *first = atomic_fetch_add(&rows->next, rows->piece);
    *end = *first + rows->piece < rows->count ? *first + rows->piece : rows->count;
    return *first < rows->count;
}

static const char *row_of(const struct rows *rows, uint32_t row)
{
    return rows->weights + (size_t)row * rows->matrix->columns * skim_type_size(rows->matrix->type);
}

static void multiply_rows(void *argument, uint32_t worker)
{
    (void)worker;
    struct rows *rows = argument;
    for (uint32_t first, end; take_piece(rows, &first, &end);)
        for (uint32_t r = first; r < end; r++)
            rows->target[r] = rows->dot(row_of(rows, r), rows->x, rows->matrix->columns);
}

static void convert_rows(void *argument, uint32_t worker)
{
    (void)worker;
    struct rows *rows = argument;
    size_t columns = rows->matrix->columns;
    for (uint32_t first, end; take_piece(rows, &first, &end);)
        halves_to_f32(rows->matrix->type, (const uint16_t *)row_of(rows, first),
                      (end - first) * columns, rows->target + first * columns);
}

static void run(struct linear *linear, struct rows *rows, void (*work)(void *, uint32_t))
{
    uint32_t columns = rows->matrix->columns;
    rows->piece = columns < PIECE_ELEMENTS ? PIECE_ELEMENTS / columns : 1;
    atomic_init(&rows->next, 0);
    if ((uint64_t)rows->count * columns >= ALONE_BELOW)
        workers_run(linear->workers, work, rows);
    else
        work(rows, 0);
}

static void multiply_one(struct linear *linear, const struct matrix *matrix, const float *x,
                         float *y)
{
    struct rows rows = {.matrix = matrix,
                        .dot = linear->dots[matrix->type],
                        .weights = matrix->data,
                        .x = x,
                        .target = y,
                        .count = matrix->rows};
    run(linear, &rows, multiply_rows);
}

static void multiply(const float *weights, const struct matrix *matrix, uint32_t rows,
                     const float *x, uint32_t tokens, float *y)
{
    int columns = (int)matrix->columns;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, (int)rows, columns, 1, x,
                columns, weights, columns, 0, y, (int)matrix->rows);
}

static void multiply_halves(struct linear *linear, const struct matrix *matrix, const float *x,
                            uint32_t tokens, float *y)
{
    struct rows rows = {.matrix = matrix, .target = linear->panel};
    uint32_t most = PANEL_ELEMENTS / matrix->columns;
    most = most ? most : 1;
    for (uint32_t first = 0; first < matrix->rows; first += most) {
        uint32_t rest = matrix->rows - first;
        rows.count = rest < most ? rest : most;
        rows.weights =
            (const char *)((const uint16_t *)matrix->data + (size_t)first * matrix->columns);
        run(linear, &rows, convert_rows);
        multiply(linear->panel, matrix, rows.count, x, tokens, y + first);
    }
}

int linear_apply(struct linear *linear, const struct matrix *matrix, const float *x,
                 uint32_t tokens, float *y)
{
    int failed = EXIT_DONE;
    if (linear->blas)
        failed = blas_multiply(linear->blas, matrix, x, tokens, y);
    else if (tokens == 1)
        multiply_one(linear, matrix, x, y);
    else if (matrix->type == SKIM_F32)
        multiply(matrix->data, matrix, matrix->rows, x, tokens, y);
    else
        multiply_halves(linear, matrix, x, tokens, y);
    for (uint32_t t = 0; matrix->bias && t < tokens && !failed; t++)
        for (uint32_t r = 0; r < matrix->rows; r++)
            y[(size_t)t * matrix->rows + r] += matrix->bias[r];
    return failed;
}
