// The cells of skim evaluate: every combination of the lists that were given, once.
#include "evaluate.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

static skim_policy policy_of(const struct settings *settings, const struct cell *cell)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = cell->budget;
    policy.dense_layers = cell->dense_layers;
    policy.select = cell->mode == EVALUATE_GROUP ? SKIM_SELECT_GROUP : SKIM_SELECT_HEAD;
    policy.combine = (skim_combine)cell->combine;
    policy.spread = (float)settings->spread;
    policy.sink_pages = settings->sink_pages;
    policy.recent_pages = cell->recent_pages;
    if (cell->mode == EVALUATE_DENSE)
        policy.dense_below = UINT32_MAX;
    if (cell->mode == EVALUATE_SINKS) {
        // All of the budget is forced: the first page, and the last ones.
        uint32_t pages = cell->budget / settings->page_size;
        policy.sink_pages = pages > 1 ? 1 : 0;
        policy.recent_pages = pages > 1 ? pages - 1 : 1;
    }
    return policy;
}

// What does not matter for a mode is set to the same in all cells of it.
static struct cell simplify(const struct cell *asked, uint32_t length)
{
    struct cell cell = *asked;
    if (cell.mode != EVALUATE_GROUP)
        cell.combine = 0;
    if (cell.mode != EVALUATE_HEAD && cell.mode != EVALUATE_GROUP)
        cell.bounds = cell.bounds_type = 0;
    if (cell.mode == EVALUATE_DENSE) {
        cell.budget = length;
        cell.dense_layers = 0;
    }
    if (cell.mode == EVALUATE_DENSE || cell.mode == EVALUATE_SINKS)
        cell.recent_pages = 0;
    return cell;
}

// Those whose lists are of query heads, of kv heads, and that have none; and in each, those that
// share a call.
static int compare(const struct cell *a, const struct cell *b)
{
    static const int ranks[] = {3, 0, 1, 0, 2};
    const int64_t keys[][2] = {
        {ranks[a->mode], ranks[b->mode]},
        {a->bounds, b->bounds},
        {a->bounds_type, b->bounds_type},
        {a->combine, b->combine},
        {a->mode, b->mode},
        {a->dense_layers, b->dense_layers},
        {a->recent_pages, b->recent_pages},
        {a->budget, b->budget},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i][0] != keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

static int compare_cells(const void *a, const void *b)
{
    return compare(a, b);
}

static uint32_t find_cell(const struct cells *cells, const struct cell *cell)
{
    uint32_t index = 0;
    while (index < cells->count && compare(&cells->cells[index], cell) != 0)
        index++;
    return index;
}

enum { DIMENSIONS = 7 };

// Combination number n, the first list changing slowest. False: there are no more.
static bool nth_cell(const struct settings *settings, uint64_t n, struct cell *cell)
{
    const struct {
        const count_list *list;
        uint32_t *value;
    } dimensions[DIMENSIONS] = {
        {&settings->recent_pages_list, &cell->recent_pages},
        {&settings->dense_layers_list, &cell->dense_layers},
        {&settings->bounds_types, &cell->bounds_type},
        {&settings->bounds_list, &cell->bounds},
        {&settings->combines, &cell->combine},
        {&settings->budgets, &cell->budget},
        {&settings->modes, NULL},
    };
    for (size_t i = 0; i < DIMENSIONS; i++) {
        uint32_t value = dimensions[i].list->values[n % dimensions[i].list->count];
        n /= dimensions[i].list->count;
        if (dimensions[i].value)
            *dimensions[i].value = value;
        else
            cell->mode = (enum evaluate_mode)value;
    }
    return n == 0;
}

// Each combination once: what does not matter for its mode is no difference.
static int ask(struct cells *cells, const struct cell *combination, uint32_t length)
{
    struct cell cell = simplify(combination, length);
    struct asked asked = {combination->budget, find_cell(cells, &cell)};
    for (uint32_t i = 0; i < cells->asked_count; i++)
        if (cells->asked[i].budget == asked.budget && cells->asked[i].cell == asked.cell)
            return EXIT_DONE;
    if (cells->asked_count == EVALUATE_CELLS)
        return report_usage("the lists have more than %d combinations; give shorter ones",
                            EVALUATE_CELLS);
    if (asked.cell == cells->count)
        cells->cells[cells->count++] = cell;
    cells->asked[cells->asked_count++] = asked;
    return EXIT_DONE;
}

// Sorts the cells so that those that share a call are neighbours.
static bool sort(struct cells *cells)
{
    size_t bytes = cells->count * sizeof *cells->cells;
    struct cells before = {.cells = malloc(bytes), .count = cells->count};
    if (!before.cells)
        return false;
    memcpy(before.cells, cells->cells, bytes);
    qsort(cells->cells, cells->count, sizeof *cells->cells, compare_cells);
    for (uint32_t i = 0; i < cells->asked_count; i++)
        cells->asked[i].cell = find_cell(cells, &before.cells[cells->asked[i].cell]);
    free(before.cells);
    return true;
}

// Numbers the kinds of bounds in use.
static void number_kinds(struct cells *cells)
{
    uint32_t kinds = 0;
    for (uint32_t i = 0; i < cells->count; i++) {
        struct cell *cell = &cells->cells[i];
        uint32_t j = 0;
        while (j < i && (cells->cells[j].bounds != cell->bounds ||
                         cells->cells[j].bounds_type != cell->bounds_type))
            j++;
        cell->kind = j < i ? cells->cells[j].kind : kinds++;
    }
}

int cells_make(struct cells *cells, const struct settings *settings, uint32_t length,
               uint32_t contexts)
{
    *cells = (struct cells){.cells = calloc(EVALUATE_CELLS, sizeof *cells->cells),
                            .asked = calloc(EVALUATE_CELLS, sizeof *cells->asked)};
    bool complete = cells->cells && cells->asked;
    int failed = EXIT_DONE;
    struct cell cell = {0};
    for (uint64_t n = 0; complete && !failed && nth_cell(settings, n, &cell); n++)
        failed = ask(cells, &cell, length);
    if (failed)
        return failed;
    complete = complete && sort(cells);
    for (uint32_t i = 0; complete && i < cells->count; i++) {
        cells->cells[i].policy = policy_of(settings, &cells->cells[i]);
        cells->cells[i].right = calloc(contexts, sizeof *cells->cells[i].right);
        complete = cells->cells[i].right != NULL;
    }
    if (!complete)
        return report_failure("out of memory for the cells; give shorter lists");
    number_kinds(cells);
    return EXIT_DONE;
}

void cells_free(struct cells *cells)
{
    for (uint32_t i = 0; cells->cells && i < cells->count; i++) {
        free(cells->cells[i].right);
        json_decref(cells->cells[i].answers);
    }
    free(cells->cells);
    free(cells->asked);
    *cells = (struct cells){0};
}
