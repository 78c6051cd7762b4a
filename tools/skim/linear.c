#include "linear.h"

#include "halves.h"
#include "report.h"

#include <cblas.h>
#include <stdlib.h>

enum { PANEL_ELEMENTS = 1 << 21, ALONE_BELOW = 1 << 16 };

int linear_open(struct linear *linear, uint32_t threads, uint32_t columns)
{
    *linear = (struct linear){0};
    size_t elements = columns > PANEL_ELEMENTS ? columns : PANEL_ELEMENTS;
    linear->panel = malloc(elements * sizeof *linear->panel);
    linear->workers = workers_create(threads);
    openblas_set_num_threads((int)threads);
    return linear->panel && linear->workers
               ? EXIT_DONE
               : report_failure("out of memory or threads; free some, or use fewer --threads");
}

void linear_close(struct linear *linear)
{
    workers_destroy(linear->workers);
    free(linear->panel);
    *linear = (struct linear){0};
}

// Work on some rows of a matrix of 16-bit numbers, divided among the workers.
struct rows {
    const struct matrix *matrix;
    const uint16_t *weights;
    const float *x;
    float *target;
    uint32_t count, parts;
};

static void multiply_part(void *argument, uint32_t index)
{
    const struct rows *rows = argument;
    size_t columns = rows->matrix->columns;
    uint32_t first = (uint32_t)((uint64_t)rows->count * index / rows->parts);
    uint32_t end = (uint32_t)((uint64_t)rows->count * (index + 1) / rows->parts);
    for (uint32_t r = first; r < end; r++)
        rows->target[r] =
            halves_dot(rows->matrix->type, rows->weights + r * columns, rows->x, columns);
}

static void convert_part(void *argument, uint32_t index)
{
    const struct rows *rows = argument;
    size_t columns = rows->matrix->columns;
    size_t first = (size_t)rows->count * index / rows->parts * columns;
    size_t end = (size_t)rows->count * (index + 1) / rows->parts * columns;
    halves_to_f32(rows->matrix->type, rows->weights + first, end - first, rows->target + first);
}

static void run(struct linear *linear, struct rows *rows, void (*work)(void *, uint32_t))
{
    rows->parts = workers_count(linear->workers);
    if ((uint64_t)rows->count * rows->matrix->columns >= ALONE_BELOW && rows->parts > 1) {
        workers_run(linear->workers, work, rows);
        return;
    }
    rows->parts = 1;
    work(rows, 0);
}

static void multiply(const float *weights, const struct matrix *matrix, uint32_t rows,
                     const float *x, uint32_t tokens, float *y)
{
    int columns = (int)matrix->columns;
    if (tokens == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)rows, columns, 1, weights, columns, x, 1, 0,
                    y, 1);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, (int)rows, columns, 1, x,
                    columns, weights, columns, 0, y, (int)matrix->rows);
}

static void multiply_halves(struct linear *linear, const struct matrix *matrix, const float *x,
                            uint32_t tokens, float *y)
{
    struct rows rows = {
        .matrix = matrix, .weights = matrix->data, .x = x, .target = y, .count = matrix->rows};
    if (tokens == 1) {
        run(linear, &rows, multiply_part);
        return;
    }
    uint32_t most = PANEL_ELEMENTS / matrix->columns;
    most = most ? most : 1;
    rows.target = linear->panel;
    for (uint32_t first = 0; first < matrix->rows; first += most) {
        uint32_t rest = matrix->rows - first;
        rows.count = rest < most ? rest : most;
        rows.weights = (const uint16_t *)matrix->data + (size_t)first * matrix->columns;
        run(linear, &rows, convert_part);
        multiply(linear->panel, matrix, rows.count, x, tokens, y + first);
    }
}

void linear_apply(struct linear *linear, const struct matrix *matrix, const float *x,
                  uint32_t tokens, float *y)
{
    if (matrix->type == SKIM_F32)
        multiply(matrix->data, matrix, matrix->rows, x, tokens, y);
    else
        multiply_halves(linear, matrix, x, tokens, y);
    for (uint32_t t = 0; matrix->bias && t < tokens; t++)
        for (uint32_t r = 0; r < matrix->rows; r++)
            y[(size_t)t * matrix->rows + r] += matrix->bias[r];
}
