// A question to many cells at once.
#include "evaluate.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DECODE_PARTS = 14 };

static void list_parts(struct decode *decode, void **parts[DECODE_PARTS])
{
    void **const all[DECODE_PARTS] = {
        (void **)&decode->row,
        (void **)&decode->call,
        (void **)&decode->at,
        (void **)&decode->leader,
        (void **)&decode->exact_rows,
        (void **)&decode->exact_place,
        (void **)&decode->history,
        (void **)&decode->strayed,
        (void **)&decode->tokens,
        (void **)&decode->logits,
        (void **)&decode->lists[LISTS_HEAD],
        (void **)&decode->lists[LISTS_GROUP],
        (void **)&decode->lists[LISTS_GIVEN],
        (void **)&decode->marks,
    };
    memcpy(parts, all, sizeof all);
}

int decode_open(struct decode *decode, struct pool *pool, struct exact *exact,
                struct forward *forward)
{
    *decode = (struct decode){.pool = pool, .exact = exact, .forward = forward};
    size_t rows = pool->rows;
    size_t lists = rows * pool->config->q_heads * pool->list_stride;
    // In the order of list_parts.
    const size_t counts[DECODE_PARTS] = {
        rows,  rows,  rows,  rows,           rows,
        rows,  rows,  rows,  rows,           rows * pool->config->vocab,
        lists, lists, lists, pool->max_pages};
    void **parts[DECODE_PARTS];
    list_parts(decode, parts);
    bool complete = true;
    for (size_t i = 0; i < DECODE_PARTS; i++)
        complete &= (*parts[i] = calloc(counts[i], i < 2 ? sizeof(skim_row) : 4)) != NULL;
    return complete ? EXIT_DONE : report_failure("out of memory for the cells; give shorter lists");
}

void decode_close(struct decode *decode)
{
    void **parts[DECODE_PARTS];
    list_parts(decode, parts);
    for (size_t i = 0; i < DECODE_PARTS; i++)
        free(*parts[i]);
    *decode = (struct decode){0};
}

static bool is_dense(const struct decode *decode, uint32_t row)
{
    return decode->row[row].flags & SKIM_ROW_DENSE;
}

static enum pool_lists lists_of(const struct decode *decode, uint32_t row)
{
    static const enum pool_lists lists[] = {LISTS_NONE, LISTS_HEAD, LISTS_GROUP, LISTS_HEAD,
                                            LISTS_GIVEN};
    return is_dense(decode, row) ? LISTS_NONE : lists[decode->cells[row].mode];
}

// Rows that were given the same tokens and were dense in every layer so far have the same queries
// and keys: the first of them attends for all.
static void find_leaders(struct decode *decode)
{
    for (uint32_t r = 0; r < decode->rows; r++) {
        decode->leader[r] = r;
        decode->strayed[r] |= !is_dense(decode, r);
        for (uint32_t s = 0; s < r && !decode->strayed[r]; s++)
            if (!decode->strayed[s] && decode->history[s] == decode->history[r]) {
                decode->leader[r] = s;
                break;
            }
    }
}

// Puts the rows in the order of the lists that they read. Cells are sorted, so that those that can
// be chosen for in one call stay neighbours.
static void arrange(struct decode *decode)
{
    uint32_t place = 0;
    for (int lists = 0; lists <= LISTS_NONE; lists++) {
        decode->first[lists] = place;
        for (uint32_t r = 0; r < decode->rows; r++)
            if ((int)lists_of(decode, r) == lists && decode->leader[r] == r) {
                decode->at[place] = r;
                decode->call[place++] = decode->row[r];
            }
        decode->count[lists] = place - decode->first[lists];
    }
}

static bool share_a_call(const struct cell *a, const struct cell *b)
{
    return a->kind == b->kind && a->policy.select == b->policy.select && a->combine == b->combine;
}

// Has the library choose for every row that lets it.
static int choose(struct decode *decode, uint32_t layer)
{
    uint32_t end = decode->first[LISTS_GIVEN];
    int failed = EXIT_DONE;
    for (uint32_t place = 0; place < end && !failed;) {
        const struct cell *cell = &decode->cells[decode->at[place]];
        uint32_t count = 1;
        while (place + count < end && share_a_call(cell, &decode->cells[decode->at[place + count]]))
            count++;
        failed = pool_choose(decode->pool, layer, cell, decode->call + place, place, count,
                             decode->rows);
        place += count;
    }
    for (int lists = LISTS_HEAD; lists <= LISTS_GROUP && decode->measured && !failed; lists++)
        if (decode->count[lists])
            failed = pool_read_lists(decode->pool, (enum pool_lists)lists, decode->first[lists],
                                     decode->count[lists], decode->lists[lists]);
    return failed;
}

// Exact scores for oracles, and, in a step that is measured, of every sparse row.
static void score(struct decode *decode, uint32_t layer, const float *q)
{
    double start = now();
    float scale = 1 / sqrtf((float)decode->pool->config->head_dim);
    decode->exact_count = 0;
    for (uint32_t r = 0; r < decode->rows; r++)
        if (!is_dense(decode, r) &&
            (decode->measured || decode->cells[r].mode == EVALUATE_ORACLE)) {
            decode->exact_place[r] = decode->exact_count;
            decode->exact_rows[decode->exact_count++] = r;
        }
    if (decode->exact_count)
        exact_run(decode->exact, layer, &decode->exact_view, q, decode->exact_rows,
                  decode->exact_count, scale);
    decode->exact_seconds += now() - start;
}

static uint32_t *list_at(const struct decode *decode, enum pool_lists lists, uint32_t place,
                         uint32_t q_head)
{
    const struct model_config *config = decode->pool->config;
    uint32_t head = lists == LISTS_GROUP ? q_head / (config->q_heads / config->kv_heads) : q_head;
    uint32_t heads = lists == LISTS_GROUP ? config->kv_heads : config->q_heads;
    return decode->lists[lists] + ((size_t)place * heads + head) * decode->pool->list_stride;
}

// The lists of oracles.
static int choose_exactly(struct decode *decode)
{
    uint32_t first = decode->first[LISTS_GIVEN];
    uint32_t count = decode->count[LISTS_GIVEN];
    if (count == 0)
        return EXIT_DONE;
    double start = now();
    for (uint32_t place = first; place < first + count; place++) {
        const skim_row *row = &decode->call[place];
        for (uint32_t h = 0; h < decode->pool->config->q_heads; h++)
            exact_choose(decode->exact, decode->exact_place[decode->at[place]], h, row->page_count,
                         row->forced_first, row->forced_last, row->select_count,
                         list_at(decode, LISTS_GIVEN, place, h));
    }
    decode->exact_seconds += now() - start;
    return pool_write_lists(decode->pool, LISTS_GIVEN, first, count, decode->lists[LISTS_GIVEN]);
}

static int attend(struct decode *decode, uint32_t layer)
{
    int failed = EXIT_DONE;
    for (int lists = 0; lists <= LISTS_NONE && !failed; lists++)
        failed = pool_attend(decode->pool, layer, (enum pool_lists)lists,
                             decode->call + decode->first[lists], decode->first[lists],
                             decode->count[lists], decode->rows);
    return failed;
}

static void follow(const struct decode *decode, float *out)
{
    size_t size = (size_t)decode->pool->config->q_heads * decode->pool->config->head_dim;
    for (uint32_t r = 0; r < decode->rows; r++)
        if (decode->leader[r] != r)
            memcpy(out + r * size, out + decode->leader[r] * size, size * sizeof *out);
}

// The share of the attention, and of its highest tokens, that lies on the pages of a row's lists.
static void measure_lists(struct decode *decode, enum pool_lists lists, uint32_t place)
{
    uint32_t r = decode->at[place];
    uint32_t pages = decode->row[r].select_count;
    struct cell_counts *counts = &decode->cells[r].counts;
    for (uint32_t h = 0; h < decode->pool->config->q_heads; h++) {
        const uint32_t *list = list_at(decode, lists, place, h);
        const uint32_t *top = exact_top(decode->exact, decode->exact_place[r], h);
        double mass = 0;
        for (uint32_t i = 0; i < pages; i++) {
            decode->marks[list[i]] = 1;
            mass += exact_weight(decode->exact, decode->exact_place[r], h, list[i]);
        }
        uint32_t found = 0;
        uint32_t tokens = 0;
        for (; tokens < EXACT_TOP && top[tokens] != UINT32_MAX; tokens++)
            found += decode->marks[top[tokens]];
        for (uint32_t i = 0; i < pages; i++)
            decode->marks[list[i]] = 0;
        counts->mass += mass < 1 ? mass : 1;
        counts->recall += tokens ? (double)found / tokens : 1;
        counts->measured++;
    }
}

static void measure(struct decode *decode, uint32_t layer)
{
    uint32_t heads = decode->pool->config->q_heads;
    for (int lists = 0; lists < LISTS_NONE; lists++)
        for (uint32_t i = 0; i < decode->count[lists]; i++)
            measure_lists(decode, (enum pool_lists)lists, decode->first[lists] + i);
    for (uint32_t r = 0; r < decode->rows; r++)
        // What is dense reads everything, in a layer that may be sparse too.
        if (is_dense(decode, r) && layer >= decode->cells[r].dense_layers) {
            decode->cells[r].counts.mass += heads;
            decode->cells[r].counts.recall += heads;
            decode->cells[r].counts.measured += heads;
        }
}

static uint64_t bounds_bytes(const struct decode *decode, const struct cell *cell)
{
    const struct model_config *config = decode->pool->config;
    if (cell->mode != EVALUATE_HEAD && cell->mode != EVALUATE_GROUP)
        return 0; // nothing is estimated to choose these
    uint64_t vector = cell->bounds_type == SKIM_BOUNDS_I8
                          ? config->head_dim + sizeof(float)
                          : config->head_dim * skim_type_size(decode->pool->type);
    return 2 * config->kv_heads * vector;
}

// What each row reads, every list by itself.
static void count_reads(struct decode *decode)
{
    const struct model_config *config = decode->pool->config;
    uint64_t token = 2ull * config->head_dim * skim_type_size(decode->pool->type);
    for (uint32_t r = 0; r < decode->rows; r++) {
        const skim_row *row = &decode->row[r];
        struct cell *cell = &decode->cells[r];
        uint32_t lists = cell->mode == EVALUATE_GROUP || cell->mode == EVALUATE_DENSE
                             ? config->kv_heads
                             : config->q_heads;
        bool dense = is_dense(decode, r);
        uint32_t pages = dense ? row->page_count : row->select_count;
        uint64_t tokens = row->length;
        // The last page, which is always read, may not be full.
        if (!dense)
            tokens -= (uint64_t)(row->page_count - pages) * decode->pool->page_size;
        uint64_t dense_bytes = config->kv_heads * row->length * token;
        cell->counts.pages_read += (uint64_t)lists * pages;
        cell->counts.pages_total += (uint64_t)lists * row->page_count;
        cell->counts.bytes_dense += dense_bytes;
        cell->counts.bytes_read +=
            dense ? dense_bytes
                  : lists * tokens * token + row->page_count * bounds_bytes(decode, cell);
    }
}

static int run_rows(struct decode *decode, uint32_t layer, const float *q, const float *k,
                    const float *v, float *out)
{
    struct pool *pool = decode->pool;
    int failed = pool_begin_layer(pool, q, decode->rows);
    if (!failed)
        failed = pool_append(pool, &decode->view, layer, decode->cells, decode->rows, k, v);
    for (uint32_t r = 0; r < decode->rows && !failed; r++)
        failed = pool_row(pool, &decode->view, &decode->cells[r], layer, r, &decode->row[r]);
    if (failed)
        return failed;
    exact_store_more(decode->exact, layer, decode->view.own_tokens - 1, decode->rows,
                     pool_stored_keys(pool, k, decode->rows));
    find_leaders(decode);
    arrange(decode);
    failed = choose(decode, layer);
    if (failed)
        return failed;
    score(decode, layer, q);
    failed = choose_exactly(decode);
    if (!failed)
        failed = attend(decode, layer);
    if (!failed)
        failed = pool_end_layer(pool, out, decode->rows);
    if (failed)
        return failed;
    follow(decode, out);
    count_reads(decode);
    if (decode->measured)
        measure(decode, layer);
    return EXIT_DONE;
}

int decode_layer(void *argument, uint32_t layer, const float *q, const float *k, const float *v,
                 float *out)
{
    struct decode *decode = argument;
    if (decode->text_tokens == 0)
        return run_rows(decode, layer, q, k, v, out);
    int failed =
        pool_run_text(decode->pool, layer, decode->text_first, decode->text_tokens, q, k, v, out);
    if (!failed)
        exact_store_text(decode->exact, layer, decode->text_first, decode->text_tokens,
                         pool_stored_keys(decode->pool, k, decode->text_tokens));
    return failed;
}

int decode_text(struct decode *decode, const uint32_t *tokens, uint32_t count)
{
    int failed = EXIT_DONE;
    for (uint32_t first = 0; first < count && !failed; first += FORWARD_STEP_TOKENS) {
        uint32_t rest = count - first;
        decode->text_first = first;
        decode->text_tokens = rest < FORWARD_STEP_TOKENS ? rest : FORWARD_STEP_TOKENS;
        failed = forward_layers(decode->forward, tokens + first, decode->text_tokens, first, false);
    }
    decode->text_tokens = 0;
    return failed;
}

static void start_view(struct decode *decode, const struct decode_question *question)
{
    uint32_t page_size = decode->pool->page_size;
    uint32_t pages = question->text_tokens / page_size;
    uint32_t tail = question->text_tokens % page_size;
    if (question->hidden && question->hidden[pages])
        tail = 0;
    uint32_t shown = pages;
    for (uint32_t p = 0; question->hidden && p < pages; p++)
        shown -= question->hidden[p];
    decode->view = (struct pool_view){
        .text_pages = pages, .hidden = question->hidden, .shown_pages = shown, .tail_tokens = tail};
    decode->exact_view = (struct exact_view){.text_pages = pages,
                                             .hidden = question->hidden,
                                             .tail_first = pages * page_size,
                                             .tail_tokens = tail};
}

// Rows stay together as long as they are given the same tokens.
static void note_tokens(struct decode *decode)
{
    for (uint32_t r = decode->rows; r-- > 0;) {
        uint32_t s = 0;
        while (s < r &&
               (decode->history[s] != decode->history[r] || decode->tokens[s] != decode->tokens[r]))
            s++;
        decode->leader[r] = s;
    }
    memcpy(decode->history, decode->leader, decode->rows * sizeof *decode->history);
}

static int run_step(struct decode *decode, uint32_t position)
{
    double start = now();
    double exact = decode->exact_seconds;
    decode->view.own_tokens++;
    decode->exact_view.more_tokens++;
    note_tokens(decode);
    memset(decode->strayed, 0, decode->rows * sizeof *decode->strayed);
    int failed = forward_layers(decode->forward, decode->tokens, decode->rows, position, true);
    if (!failed && decode->measured)
        failed = forward_logits(decode->forward, decode->rows, decode->rows, decode->logits);
    double seconds = now() - start - (decode->exact_seconds - exact);
    for (uint32_t r = 0; r < decode->rows; r++) {
        decode->cells[r].counts.steps++;
        decode->cells[r].counts.seconds += seconds / decode->rows;
    }
    return failed;
}

// The likeliest token of each row, the first of equals.
static int choose_tokens(struct decode *decode)
{
    uint32_t vocab = decode->pool->config->vocab;
    const float *logits = decode->logits;
    for (uint32_t r = 0; r < decode->rows; r++, logits += vocab) {
        decode->tokens[r] = 0;
        for (uint32_t i = 0; i < vocab; i++) {
            if (!isfinite(logits[i]))
                return report_failure("the model's logits are not finite: its weights are damaged, "
                                      "or too large for the type");
            if (logits[i] > logits[decode->tokens[r]])
                decode->tokens[r] = i;
        }
    }
    return EXIT_DONE;
}

int decode_ask(struct decode *decode, struct cell *cells, uint32_t count,
               const struct decode_question *question, uint32_t *answers)
{
    decode->cells = cells;
    decode->rows = count;
    start_view(decode, question);
    memset(decode->history, 0, count * sizeof *decode->history);
    int failed = pool_fork(decode->pool, &decode->view, cells, count);
    uint32_t steps = question->token_count + question->answer_tokens - 1;
    for (uint32_t step = 0; step < steps && !failed; step++) {
        for (uint32_t r = 0; r < count && step < question->token_count; r++)
            decode->tokens[r] = question->tokens[step];
        // The steps whose logits are the answer.
        decode->measured = step + 1 >= question->token_count;
        failed = run_step(decode, question->text_tokens + step);
        if (failed || !decode->measured)
            continue;
        failed = choose_tokens(decode);
        for (uint32_t r = 0; r < count; r++)
            answers[r * DECODE_ANSWER + step + 1 - question->token_count] = decode->tokens[r];
    }
    return failed;
}
