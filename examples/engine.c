// Tier 2: an engine keeps its own paged KV cache and records the four verbs on it.
//
// The engine's layout here is [slot][K or V][head][token][dim]; strides tell Skim. Two sequences of
// different lengths share one pool and decode one token each; the result is compared with dense
// attention, which is the same where the budget covers everything.
#include <skim/skim.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { Q_HEADS = 8, KV_HEADS = 2, DIM = 64, PAGE = 16, ROWS = 2, PAGES = 32, SLOTS = ROWS * PAGES };
enum {
    BUDGET = 128,
    HEADS_DIM = Q_HEADS * DIM,
    MAX_TOKENS = 640,
    PAGE_ELEMENTS = KV_HEADS * PAGE * DIM
};

// All that the engine owns.
static struct {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_buffer *pool, *bounds, *scores, *lists;
    skim_shape shape;
    uint32_t table[SLOTS];
} engine;

static const uint32_t lengths[ROWS] = {500, 90}; // 90 tokens fit the budget: that row runs dense

static void fill(float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = 2.0f * (float)rand() / (float)RAND_MAX - 1.0f;
}

static skim_paged paged(int values)
{
    skim_paged found = {.buffer = engine.pool,
                        .offset = values ? PAGE_ELEMENTS * sizeof(float) : 0,
                        .page_stride = 2 * PAGE_ELEMENTS,
                        .head_stride = PAGE * DIM,
                        .token_stride = DIM};
    return found;
}

static skim_status start(void)
{
    skim_shape shape = {.size_of = sizeof shape,
                        .q_heads = Q_HEADS,
                        .kv_heads = KV_HEADS,
                        .key_dim = DIM,
                        .value_dim = DIM,
                        .page_size = PAGE,
                        .type = SKIM_F32,
                        .slots = SLOTS,
                        .max_rows = ROWS,
                        .max_tokens = MAX_TOKENS,
                        .max_pages = PAGES};
    engine.shape = shape;
    for (uint32_t i = 0; i < SLOTS; i++)
        engine.table[i] = SLOTS - 1 - i; // any slots will do
    uint64_t bounds_bytes = 0;
    skim_status status = skim_runtime_create(NULL, &engine.runtime);
    if (status == SKIM_OK)
        status = skim_device_open(engine.runtime, "auto", NULL, &engine.device);
    if (status == SKIM_OK)
        status = skim_queue_create(engine.device, &engine.queue);
    if (status == SKIM_OK)
        status = skim_queue_prepare(engine.queue, &engine.shape);
    if (status == SKIM_OK)
        status = skim_bounds_size(engine.device, &engine.shape, &bounds_bytes);
    if (status == SKIM_OK)
        status = skim_buffer_create(engine.device, bounds_bytes, &engine.bounds);
    if (status == SKIM_OK)
        status = skim_buffer_create(engine.device, SLOTS * 2 * PAGE_ELEMENTS * sizeof(float),
                                    &engine.pool);
    if (status == SKIM_OK)
        status = skim_buffer_create(engine.device, ROWS * Q_HEADS * PAGES * sizeof(float),
                                    &engine.scores);
    if (status == SKIM_OK)
        status = skim_buffer_create(engine.device, ROWS * KV_HEADS * PAGES * sizeof(uint32_t),
                                    &engine.lists);
    return status;
}

static void stop(void)
{
    skim_buffer_destroy(engine.pool);
    skim_buffer_destroy(engine.bounds);
    skim_buffer_destroy(engine.scores);
    skim_buffer_destroy(engine.lists);
    skim_queue_destroy(engine.queue);
    skim_device_close(engine.device);
    skim_runtime_destroy(engine.runtime);
}

// Appends each row's tokens: its whole prompt, or one more.
static skim_status append(const skim_row *rows, uint32_t tokens, const float *k, const float *v)
{
    skim_append_args args = {.size_of = sizeof args,
                             .shape = &engine.shape,
                             .rows = skim_tensor_host(rows, SKIM_U32),
                             .row_count = ROWS,
                             .token_count = tokens,
                             .table = skim_tensor_host(engine.table, SKIM_U32),
                             .table_count = SLOTS,
                             .k = skim_tensor_host(k, SKIM_F32),
                             .v = skim_tensor_host(v, SKIM_F32),
                             .keys = paged(0),
                             .values = paged(1),
                             .bounds = engine.bounds};
    return skim_append(engine.queue, &args);
}

static skim_status choose(const skim_row *rows, const float *q)
{
    skim_estimate_args estimate = {.size_of = sizeof estimate,
                                   .shape = &engine.shape,
                                   .rows = skim_tensor_host(rows, SKIM_U32),
                                   .row_count = ROWS,
                                   .token_count = ROWS,
                                   .table = skim_tensor_host(engine.table, SKIM_U32),
                                   .table_count = SLOTS,
                                   .q = skim_tensor_host(q, SKIM_F32),
                                   .bounds = engine.bounds,
                                   .scores = engine.scores,
                                   .score_stride = PAGES};
    skim_status status = skim_estimate(engine.queue, &estimate);
    if (status != SKIM_OK)
        return status;
    skim_select_args select = {.size_of = sizeof select,
                               .shape = &engine.shape,
                               .rows = skim_tensor_host(rows, SKIM_U32),
                               .row_count = ROWS,
                               .scores = engine.scores,
                               .score_stride = PAGES,
                               .select = SKIM_SELECT_GROUP,
                               .combine = SKIM_COMBINE_SOFTMAX_MAX,
                               .lists = engine.lists,
                               .list_stride = PAGES};
    return skim_select(engine.queue, &select);
}

static skim_status attend(const skim_row *rows, const float *q, float *out)
{
    skim_attend_args args = {.size_of = sizeof args,
                             .shape = &engine.shape,
                             .rows = skim_tensor_host(rows, SKIM_U32),
                             .row_count = ROWS,
                             .token_count = ROWS,
                             .table = skim_tensor_host(engine.table, SKIM_U32),
                             .table_count = SLOTS,
                             .q = skim_tensor_host(q, SKIM_F32),
                             .keys = paged(0),
                             .values = paged(1),
                             .select = SKIM_SELECT_GROUP,
                             .lists = engine.lists,
                             .list_stride = PAGES,
                             .out = skim_tensor_host(out, SKIM_F32)};
    return skim_attend(engine.queue, &args);
}

// Rows of a step: count[i] new tokens bring sequence i to length[i].
static skim_status make_rows(skim_row *rows, const uint32_t *length, const uint32_t *count,
                             int dense)
{
    skim_policy policy = skim_policy_defaults();
    policy.budget = BUDGET;
    policy.dense_layers = 0;
    policy.dense_below = dense ? UINT32_MAX : 0;
    uint32_t start = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        skim_row row = {.length = length[i],
                        .query_start = start,
                        .query_count = count[i],
                        .table_start = i * PAGES};
        skim_status status = skim_policy_resolve(&policy, 0, PAGE, &row);
        if (status != SKIM_OK)
            return status;
        rows[i] = row;
        start += count[i];
    }
    return SKIM_OK;
}

// Both prompts in one call: all of each sequence but its last token.
static skim_status prompt(void)
{
    static float k[MAX_TOKENS * KV_HEADS * DIM], v[MAX_TOKENS * KV_HEADS * DIM];
    const uint32_t count[ROWS] = {lengths[0] - 1, lengths[1] - 1};
    skim_row rows[ROWS];
    fill(k, (size_t)(count[0] + count[1]) * KV_HEADS * DIM);
    fill(v, (size_t)(count[0] + count[1]) * KV_HEADS * DIM);
    skim_status status = make_rows(rows, count, count, 0);
    return status == SKIM_OK ? append(rows, count[0] + count[1], k, v) : status;
}

static skim_status decode(float *sparse, float *dense)
{
    float k[ROWS * KV_HEADS * DIM], v[ROWS * KV_HEADS * DIM], q[ROWS * Q_HEADS * DIM];
    const uint32_t count[ROWS] = {1, 1};
    skim_row rows[ROWS];
    skim_row dense_rows[ROWS];
    fill(k, ROWS * KV_HEADS * DIM);
    fill(v, ROWS * KV_HEADS * DIM);
    fill(q, ROWS * Q_HEADS * DIM);
    skim_status status = make_rows(rows, lengths, count, 0);
    if (status == SKIM_OK)
        status = make_rows(dense_rows, lengths, count, 1);
    if (status == SKIM_OK)
        status = append(rows, ROWS, k, v);
    if (status == SKIM_OK)
        status = choose(rows, q);
    if (status == SKIM_OK)
        status = attend(rows, q, sparse);
    if (status == SKIM_OK)
        status = attend(dense_rows, q, dense);
    for (uint32_t i = 0; i < ROWS && status == SKIM_OK; i++)
        printf("sequence %u: %u tokens, %u of %u pages\n", i, rows[i].length,
               rows[i].select_count < rows[i].page_count ? rows[i].select_count
                                                         : rows[i].page_count,
               rows[i].page_count);
    return status == SKIM_OK ? skim_queue_finish(engine.queue) : status;
}

// The sentence is on the object that the call was made on.
static int fail(skim_status status)
{
    char text[256] = "";
    if (skim_queue_error(engine.queue, text, sizeof text) == 0 &&
        skim_device_error(engine.device, text, sizeof text) == 0)
        skim_runtime_error(engine.runtime, text, sizeof text);
    fprintf(stderr, "engine: %s\n", *text ? text : skim_status_name(status));
    return 1;
}

int main(void)
{
    static float sparse[ROWS * Q_HEADS * DIM], dense[ROWS * Q_HEADS * DIM];
    skim_status status = start();
    if (status == SKIM_OK)
        status = prompt();
    if (status == SKIM_OK)
        status = decode(sparse, dense);
    int result = status == SKIM_OK ? 0 : fail(status);
    stop();
    if (result)
        return result;
    // Row 1 fits the budget: the same bits as dense.
    int same = memcmp(sparse + HEADS_DIM, dense + HEADS_DIM, HEADS_DIM * sizeof *sparse) == 0;
    printf("sequence 1 read everything and %s dense\n", same ? "equals" : "differs from");
    return same ? 0 : 1;
}
