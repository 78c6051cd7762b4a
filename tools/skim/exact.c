#include "exact.h"

#include "report.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE_TOKENS = 256 }; // a multiple of every page size

struct candidate {
    float score;
    uint32_t page, token;
};

// One run, divided among the workers.
struct run {
    struct exact *exact;
    const struct exact_view *view;
    uint32_t layer, kv_head, queries, pages;
    const uint32_t *rows;
    const uint32_t *logical; // of each whole page of the text: its page in the view, or hidden
};

#define HIDDEN_PAGE UINT32_MAX

static size_t text_size(const struct exact_shape *shape)
{
    return (size_t)shape->tokens * shape->head_dim;
}

static uint32_t group_of(const struct exact_shape *shape)
{
    return shape->q_heads / shape->kv_heads;
}

static uint32_t most_pages(const struct exact_shape *shape)
{
    return (uint32_t)(((uint64_t)shape->tokens + shape->more) / shape->page_size) + 2;
}

struct part {
    size_t offset; // of the pointer in struct exact
    uint64_t factors[6];
};

enum { PARTS = 10 };

static void list_parts(const struct exact_shape *shape, uint32_t threads, struct part parts[PARTS])
{
    uint64_t queries = (uint64_t)shape->rows * group_of(shape);
    uint64_t kv = shape->kv_heads;
    uint64_t dim = shape->head_dim;
    uint64_t pages = most_pages(shape);
    const struct part all[PARTS] = {
        {offsetof(struct exact, text), {4, shape->layers, kv, shape->tokens, dim, 1}},
        {offsetof(struct exact, more), {4, shape->layers, kv * shape->rows, shape->more, dim, 1}},
        {offsetof(struct exact, maxima), {4, kv, pages, queries, 1, 1}},
        {offsetof(struct exact, weights), {4, kv, pages, queries, 1, 1}},
        {offsetof(struct exact, queries), {4, kv, queries, dim, 1, 1}},
        {offsetof(struct exact, tiles), {4, threads, TILE_TOKENS, queries, 1, 1}},
        {offsetof(struct exact, candidates),
         {sizeof(struct candidate), threads, queries, EXACT_TOP, 1, 1}},
        {offsetof(struct exact, top), {4, kv, queries, EXACT_TOP, 1, 1}},
        {offsetof(struct exact, logical), {4, pages, 1, 1, 1, 1}},
        {offsetof(struct exact, order), {4, pages, 1, 1, 1, 1}},
    };
    memcpy(parts, all, sizeof all);
}

static bool part_bytes(const struct part *part, uint64_t *bytes)
{
    *bytes = 1;
    for (size_t i = 0; i < sizeof part->factors / sizeof *part->factors; i++)
        if (__builtin_mul_overflow(*bytes, part->factors[i], bytes))
            return false;
    return true;
}

uint64_t exact_bytes(const struct exact_shape *shape, uint32_t threads)
{
    struct part parts[PARTS];
    list_parts(shape, threads, parts);
    uint64_t sum = 0;
    for (size_t i = 0; i < PARTS; i++) {
        uint64_t bytes;
        if (!part_bytes(&parts[i], &bytes) || __builtin_add_overflow(sum, bytes, &sum))
            return 0;
    }
    return sum;
}

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// e to the x for x <= 0, to about seven digits, and 0 or nearly so below -87. Without the C library
// and without a branch, so that loops of it become vector code.
INLINE float exponential(float x)
{
    const uint32_t least = 0xc2ae0000; // -87; of negative numbers, the bits grow as they fall
    const float whole = 12582912;      // 1.5 * 2^23: added to a small number, it leaves no fraction
    uint32_t bits = to_bits(x);
    float scaled = from_bits(bits < least ? bits : least) * 1.44269504f;
    float shifted = scaled + whole;
    float f = (scaled - (shifted - whole)) * 0.693147181f;
    float series =
        1 + f * (1 + f * (0.5f + f * (0.16666667f + f * (0.041666667f + f * 0.0083333333f))));
    return series * from_bits((to_bits(shifted) - to_bits(whole) + 127) << 23);
}

// A page's largest score and sum of exponentials, of every query; scores are [token][query].
INLINE void reduce_body(const float *restrict scores, uint32_t tokens, uint32_t queries,
                        float *restrict maxima, float *restrict sums)
{
    memcpy(maxima, scores, queries * sizeof *maxima);
    for (uint32_t t = 1; t < tokens; t++)
        for (uint32_t i = 0; i < queries; i++) {
            float score = scores[(size_t)t * queries + i];
            maxima[i] = score > maxima[i] ? score : maxima[i];
        }
    for (uint32_t i = 0; i < queries; i++)
        sums[i] = 0;
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < queries; i++)
            sums[i] += exponential(scores[(size_t)t * queries + i] - maxima[i]);
}

// The loops are compiled twice on x86-64, as those of halves.c; the results do not differ.
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void
reduce_wide(const float *scores, uint32_t tokens, uint32_t queries, float *maxima, float *sums)
{
    reduce_body(scores, tokens, queries, maxima, sums);
}

static bool is_wide(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define reduce_wide reduce_plain

static bool is_wide(void)
{
    return false;
}
#endif

static void reduce_plain(const float *scores, uint32_t tokens, uint32_t queries, float *maxima,
                         float *sums)
{
    reduce_body(scores, tokens, queries, maxima, sums);
}

int exact_open(struct exact *exact, const struct exact_shape *shape, uint32_t threads)
{
    *exact = (struct exact){.shape = *shape,
                            .threads = threads,
                            .max_pages = most_pages(shape),
                            .reduce = is_wide() ? reduce_wide : reduce_plain};
    struct part parts[PARTS];
    list_parts(shape, threads, parts);
    bool complete = (exact->workers = workers_create(threads, 0)) != NULL;
    for (size_t i = 0; i < PARTS && complete; i++) {
        uint64_t bytes = 0;
        void **place = (void **)((char *)exact + parts[i].offset);
        complete = part_bytes(&parts[i], &bytes) && (*place = malloc((size_t)bytes)) != NULL;
    }
    return complete ? EXIT_DONE
                    : report_failure("out of memory or threads for the exact scores; use shorter "
                                     "texts or fewer cells");
}

void exact_close(struct exact *exact)
{
    workers_destroy(exact->workers);
    free(exact->text);
    free(exact->more);
    free(exact->maxima);
    free(exact->weights);
    free(exact->queries);
    free(exact->tiles);
    free(exact->candidates);
    free(exact->top);
    free(exact->logical);
    free(exact->order);
    *exact = (struct exact){0};
}

static float *text_keys(const struct exact *exact, uint32_t layer, uint32_t kv_head)
{
    return exact->text +
           ((size_t)layer * exact->shape.kv_heads + kv_head) * text_size(&exact->shape);
}

static float *more_keys(const struct exact *exact, uint32_t layer, uint32_t row, uint32_t kv_head)
{
    const struct exact_shape *shape = &exact->shape;
    size_t head = ((size_t)layer * shape->rows + row) * shape->kv_heads + kv_head;
    return exact->more + head * shape->more * shape->head_dim;
}

void exact_store_text(struct exact *exact, uint32_t layer, uint32_t first, uint32_t tokens,
                      const float *keys)
{
    const struct exact_shape *shape = &exact->shape;
    size_t dim = shape->head_dim;
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t h = 0; h < shape->kv_heads; h++, keys += dim)
            memcpy(text_keys(exact, layer, h) + (first + t) * dim, keys, dim * sizeof *keys);
}

void exact_store_more(struct exact *exact, uint32_t layer, uint32_t index, uint32_t rows,
                      const float *keys)
{
    const struct exact_shape *shape = &exact->shape;
    size_t dim = shape->head_dim;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t h = 0; h < shape->kv_heads; h++, keys += dim)
            memcpy(more_keys(exact, layer, r, h) + index * dim, keys, dim * sizeof *keys);
}

uint32_t exact_pages(const struct exact *exact, const struct exact_view *view)
{
    uint32_t pages = view->text_pages;
    for (uint32_t p = 0; view->hidden && p < view->text_pages; p++)
        pages -= view->hidden[p];
    uint32_t rest = view->tail_tokens + view->more_tokens;
    return pages + (rest + exact->shape.page_size - 1) / exact->shape.page_size;
}

static float *maxima_of(const struct run *run, uint32_t page)
{
    return run->exact->maxima +
           ((size_t)run->kv_head * run->exact->max_pages + page) * run->queries;
}

static float *weights_of(const struct run *run, uint32_t page)
{
    return run->exact->weights +
           ((size_t)run->kv_head * run->exact->max_pages + page) * run->queries;
}

static bool is_before(const struct candidate *a, const struct candidate *b)
{
    return a->score != b->score ? a->score > b->score : a->token < b->token;
}

// Keeps a candidate if it is among the best, which are in order.
static void keep(struct candidate *best, const struct candidate *candidate)
{
    if (!is_before(candidate, &best[EXACT_TOP - 1]))
        return;
    uint32_t place = EXACT_TOP - 1;
    for (; place > 0 && is_before(candidate, &best[place - 1]); place--)
        best[place] = best[place - 1];
    best[place] = *candidate;
}

static struct candidate *candidates_of(const struct run *run, uint32_t thread)
{
    return (struct candidate *)run->exact->candidates + (size_t)thread * run->queries * EXACT_TOP;
}

static void keep_page(const float *scores, uint32_t tokens, uint32_t queries, const float *maxima,
                      uint32_t page, uint32_t first, struct candidate *best)
{
    for (uint32_t i = 0; i < queries; i++, best += EXACT_TOP) {
        if (maxima[i] < best[EXACT_TOP - 1].score)
            continue;
        for (uint32_t t = 0; t < tokens; t++)
            keep(best, &(struct candidate){scores[(size_t)t * queries + i], page, first + t});
    }
}

// Scores of consecutive tokens of the text: [token][query].
static void score_tile(const struct run *run, uint32_t first, uint32_t tokens, float *scores)
{
    const struct exact *exact = run->exact;
    int dim = (int)exact->shape.head_dim;
    const float *keys = text_keys(exact, run->layer, run->kv_head) + (size_t)first * (size_t)dim;
    const float *queries =
        exact->queries + (size_t)run->kv_head * run->queries * exact->shape.head_dim;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, (int)run->queries, dim, 1,
                keys, dim, queries, dim, 0, scores, (int)run->queries);
}

static void run_tiles(void *argument, uint32_t index)
{
    const struct run *run = argument;
    const struct exact *exact = run->exact;
    uint32_t page_size = exact->shape.page_size;
    uint32_t tokens = run->view->text_pages * page_size;
    float *scores = exact->tiles + (size_t)index * TILE_TOKENS * run->queries;
    struct candidate *best = candidates_of(run, index);
    for (size_t i = 0; i < (size_t)run->queries * EXACT_TOP; i++)
        best[i] = (struct candidate){-INFINITY, HIDDEN_PAGE, UINT32_MAX};
    for (uint32_t first = index * TILE_TOKENS; first < tokens;
         first += exact->threads * TILE_TOKENS) {
        uint32_t count = tokens - first < TILE_TOKENS ? tokens - first : TILE_TOKENS;
        score_tile(run, first, count, scores);
        for (uint32_t t = 0; t < count; t += page_size) {
            uint32_t page = run->logical[(first + t) / page_size];
            if (page == HIDDEN_PAGE)
                continue;
            const float *page_scores = scores + (size_t)t * run->queries;
            exact->reduce(page_scores, page_size, run->queries, maxima_of(run, page),
                          weights_of(run, page));
            keep_page(page_scores, page_size, run->queries, maxima_of(run, page), page, first + t,
                      best);
        }
    }
}

static float dot(const float *a, const float *b, uint32_t count)
{
    float sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

// The key of a token of the tail or after it.
static const float *late_key(const struct run *run, uint32_t row, uint32_t token)
{
    const struct exact_view *view = run->view;
    size_t dim = run->exact->shape.head_dim;
    if (token < view->tail_tokens)
        return text_keys(run->exact, run->layer, run->kv_head) + (view->tail_first + token) * dim;
    return more_keys(run->exact, run->layer, row, run->kv_head) + (token - view->tail_tokens) * dim;
}

// The last pages, whose keys each row has for itself.
static void run_late_pages(const struct run *run, uint32_t first_page)
{
    const struct exact_shape *shape = &run->exact->shape;
    uint32_t group = group_of(shape);
    uint32_t tokens = run->view->tail_tokens + run->view->more_tokens;
    float *scores = run->exact->tiles;
    const float *queries =
        run->exact->queries + (size_t)run->kv_head * run->queries * shape->head_dim;
    for (uint32_t t = 0; t < tokens; t += shape->page_size) {
        uint32_t count = tokens - t < shape->page_size ? tokens - t : shape->page_size;
        uint32_t page = first_page + t / shape->page_size;
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t query = 0; query < run->queries; query++)
                scores[(size_t)i * run->queries + query] =
                    dot(queries + (size_t)query * shape->head_dim,
                        late_key(run, run->rows[query / group], t + i), shape->head_dim);
        run->exact->reduce(scores, count, run->queries, maxima_of(run, page),
                           weights_of(run, page));
        keep_page(scores, count, run->queries, maxima_of(run, page), page, UINT32_MAX / 2 + t,
                  candidates_of(run, 0));
    }
}

// From maxima and sums to weights.
static void weigh(const struct run *run)
{
    uint32_t queries = run->queries;
    float *most = run->exact->tiles; // [query]; the scores are no longer needed
    float *total = most + queries;
    memcpy(most, maxima_of(run, 0), queries * sizeof *most);
    for (uint32_t i = 0; i < queries; i++)
        total[i] = 0;
    for (uint32_t p = 1; p < run->pages; p++) {
        const float *maxima = maxima_of(run, p);
        for (uint32_t i = 0; i < queries; i++)
            most[i] = maxima[i] > most[i] ? maxima[i] : most[i];
    }
    for (uint32_t p = 0; p < run->pages; p++) {
        const float *maxima = maxima_of(run, p);
        float *weights = weights_of(run, p);
        for (uint32_t i = 0; i < queries; i++) {
            weights[i] *= exponential(maxima[i] - most[i]);
            total[i] += weights[i];
        }
    }
    for (uint32_t i = 0; i < queries; i++)
        total[i] = 1 / total[i];
    for (uint32_t p = 0; p < run->pages; p++) {
        float *weights = weights_of(run, p);
        for (uint32_t i = 0; i < queries; i++)
            weights[i] *= total[i];
    }
}

static void find_top(const struct run *run)
{
    uint32_t *top = run->exact->top + (size_t)run->kv_head * run->queries * EXACT_TOP;
    for (uint32_t query = 0; query < run->queries; query++, top += EXACT_TOP) {
        struct candidate *best = candidates_of(run, 0) + (size_t)query * EXACT_TOP;
        for (uint32_t thread = 1; thread < run->exact->threads; thread++)
            for (uint32_t i = 0; i < EXACT_TOP; i++)
                keep(best, candidates_of(run, thread) + (size_t)query * EXACT_TOP + i);
        for (uint32_t i = 0; i < EXACT_TOP; i++)
            top[i] = best[i].page;
    }
}

static void gather_queries(struct run *run, const float *q, uint32_t count, float scale)
{
    const struct exact_shape *shape = &run->exact->shape;
    size_t size = (size_t)group_of(shape) * shape->head_dim;
    float *target = run->exact->queries;
    for (uint32_t kv_head = 0; kv_head < shape->kv_heads; kv_head++)
        for (uint32_t i = 0; i < count; i++) {
            const float *source = q + (run->rows[i] * (size_t)shape->kv_heads + kv_head) * size;
            for (size_t d = 0; d < size; d++)
                *target++ = source[d] * scale;
        }
}

void exact_run(struct exact *exact, uint32_t layer, const struct exact_view *view, const float *q,
               const uint32_t *rows, uint32_t count, float scale)
{
    struct run run = {.exact = exact,
                      .view = view,
                      .layer = layer,
                      .rows = rows,
                      .queries = count * group_of(&exact->shape),
                      .pages = exact_pages(exact, view)};
    uint32_t *logical = exact->logical;
    uint32_t shown = 0;
    for (uint32_t p = 0; p < view->text_pages; p++)
        logical[p] = view->hidden && view->hidden[p] ? HIDDEN_PAGE : shown++;
    run.logical = logical;
    gather_queries(&run, q, count, scale);
    int threads = openblas_get_num_threads();
    openblas_set_num_threads(1); // each worker has products of its own
    for (run.kv_head = 0; run.kv_head < exact->shape.kv_heads; run.kv_head++) {
        workers_run(exact->workers, run_tiles, &run);
        run_late_pages(&run, shown);
        weigh(&run);
        find_top(&run);
    }
    openblas_set_num_threads(threads);
    exact->run_queries = run.queries;
}

static uint32_t query_of(const struct exact *exact, uint32_t place, uint32_t q_head)
{
    uint32_t group = group_of(&exact->shape);
    return place * group + q_head % group;
}

float exact_weight(const struct exact *exact, uint32_t place, uint32_t q_head, uint32_t page)
{
    size_t kv_head = q_head / group_of(&exact->shape);
    return exact->weights[(kv_head * exact->max_pages + page) * exact->run_queries +
                          query_of(exact, place, q_head)];
}

const uint32_t *exact_top(const struct exact *exact, uint32_t place, uint32_t q_head)
{
    size_t kv_head = q_head / group_of(&exact->shape);
    return exact->top + (kv_head * exact->run_queries + query_of(exact, place, q_head)) * EXACT_TOP;
}

// Returns the value that is at `place` when the values are in descending order (Hoare's selection).
static float select_value(float *values, uint32_t count, uint32_t place)
{
    uint32_t low = 0;
    uint32_t high = count - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        uint32_t i = low;
        uint32_t j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i > j)
                break;
            float kept = values[i];
            values[i++] = values[j];
            values[j] = kept;
            if (j == 0)
                break;
            j--;
        }
        if (place <= j)
            high = j;
        else if (place >= i)
            low = i;
        else
            break;
    }
    return values[place];
}

// What is no number is the least.
static float weight_or_less(const struct exact *exact, uint32_t place, uint32_t q_head,
                            uint32_t page)
{
    float weight = exact_weight(exact, place, q_head, page);
    return weight >= 0 ? weight : -1;
}

void exact_choose(const struct exact *exact, uint32_t place, uint32_t q_head, uint32_t pages,
                  uint32_t forced_first, uint32_t forced_last, uint32_t select_count,
                  uint32_t *list)
{
    uint32_t end = pages - forced_last;
    uint32_t wanted = select_count - forced_first - forced_last;
    float *values = exact->order;
    float least = INFINITY;
    uint32_t equal = 0; // of the pages at the least value, how many are wanted
    for (uint32_t p = forced_first; p < end; p++)
        values[p - forced_first] = weight_or_less(exact, place, q_head, p);
    if (wanted > 0) {
        least = select_value(values, end - forced_first, wanted - 1);
        equal = wanted;
        for (uint32_t i = 0; i < end - forced_first; i++)
            equal -= values[i] > least;
    }
    for (uint32_t p = 0; p < pages; p++) {
        bool chosen = p < forced_first || p >= end;
        if (!chosen) {
            float weight = weight_or_less(exact, place, q_head, p);
            chosen = weight > least || (weight == least && equal > 0);
            equal -= weight == least && chosen;
        }
        if (chosen)
            *list++ = p;
    }
}
