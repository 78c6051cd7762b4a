// The known-answer test of prepare: a driver that miscompiles a kernel is refused here, not in a
// user's text. Four pages; pages 1 and 3 hold keys that point along the query, the others keys that
// point away, so that with K = 2 and the last page forced, select must choose 1 and 3, and
// attention over them is the plain mean of their values, which are small integers.
#include "runtime/cache.h"

#include "runtime/layer.h"
#include "runtime/verbs.h"

#include <math.h>
#include <string.h>

enum { PAGES = 4, CHOSEN = 2 };

typedef struct self_test {
    skim_queue *queue;
    skim_shape shape;
    uint32_t tokens;
    skim_buffer *pages, *bounds, *centre, *scores, *lists;
    void *k, *v;
    float *q, *out;
    uint32_t list[CHOSEN];
} self_test;

static uint64_t kv_elements(const self_test *test)
{
    return (uint64_t)test->tokens * test->shape.kv_heads * test->shape.key_dim;
}

static uint64_t q_elements(const self_test *test)
{
    return (uint64_t)test->shape.q_heads * test->shape.key_dim;
}

// Small integers and halves, which every type holds exactly.
static void store(void *data, skim_type type, uint64_t index, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == SKIM_F32) {
        ((float *)data)[index] = value;
    } else if (type == SKIM_BF16) {
        ((uint16_t *)data)[index] = (uint16_t)(bits >> 16);
    } else {
        uint32_t exponent = bits >> 23 & 0xff;
        uint32_t half = value == 0.0f ? 0 : (exponent - 112) << 10 | (bits >> 13 & 0x3ff);
        ((uint16_t *)data)[index] = (uint16_t)(half | (bits >> 16 & 0x8000));
    }
}

static float value_of(uint32_t token, uint32_t head, uint32_t d)
{
    return (float)((token * 7 + head * 3 + d) % 32);
}

static void fill(self_test *test)
{
    const skim_shape *shape = &test->shape;
    uint64_t at = 0;
    for (uint32_t t = 0; t < test->tokens; t++) {
        float sign = t / shape->page_size % 2 ? 1.0f : -1.0f;
        for (uint32_t h = 0; h < shape->kv_heads; h++) {
            for (uint32_t d = 0; d < shape->key_dim; d++, at++) {
                store(test->k, shape->type, at, d == h % shape->key_dim ? sign : 0.0f);
                store(test->v, shape->type, at, value_of(t, h, d));
            }
        }
    }
    uint32_t group = shape->q_heads / shape->kv_heads;
    for (uint32_t h = 0; h < shape->q_heads; h++)
        test->q[(size_t)h * shape->key_dim + h / group % shape->key_dim] = 2.0f;
}

static skim_status allocate(self_test *test)
{
    skim_device *device = test->queue->base.device;
    const skim_shape *shape = &test->shape;
    test->k = skim_allocate(device->host, kv_elements(test) * sizeof(float));
    test->v = skim_allocate(device->host, kv_elements(test) * sizeof(float));
    test->q = skim_allocate(device->host, q_elements(test) * sizeof(float));
    test->out = skim_allocate(device->host, q_elements(test) * sizeof(float));
    if (!test->k || !test->v || !test->q || !test->out)
        return SKIM_NO_MEMORY;
    uint64_t lists = (uint64_t)shape->q_heads * PAGES * sizeof(float);
    skim_status status =
        skim_buffer_create(device, PAGES * skim_layer_slot_bytes(shape), &test->pages);
    if (status == SKIM_OK)
        status =
            skim_buffer_create(device, device->backend->bounds_size(device, shape), &test->bounds);
    if (status == SKIM_OK && skim_layer_centre_bytes(shape) > 0)
        status = skim_buffer_create(device, skim_layer_centre_bytes(shape), &test->centre);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, lists, &test->scores);
    if (status == SKIM_OK)
        status = skim_buffer_create(device, lists, &test->lists);
    return status;
}

static void release(self_test *test)
{
    const skim_host *host = test->queue->base.device->host;
    skim_buffer_destroy(test->pages);
    skim_buffer_destroy(test->bounds);
    skim_buffer_destroy(test->centre);
    skim_buffer_destroy(test->scores);
    skim_buffer_destroy(test->lists);
    skim_release(host, test->k, kv_elements(test) * sizeof(float));
    skim_release(host, test->v, kv_elements(test) * sizeof(float));
    skim_release(host, test->q, q_elements(test) * sizeof(float));
    skim_release(host, test->out, q_elements(test) * sizeof(float));
}

static skim_status record(self_test *test)
{
    const skim_shape *shape = &test->shape;
    static const uint32_t table[PAGES] = {2, 0, 3, 1};
    skim_row row = {.length = test->tokens,
                    .query_count = test->tokens,
                    .page_count = PAGES,
                    .select_count = CHOSEN,
                    .forced_last = 1};
    skim_append_args append = {
        .size_of = sizeof append,
        .shape = shape,
        .rows = skim_tensor_host(&row, SKIM_U32),
        .row_count = 1,
        .token_count = test->tokens,
        .table = skim_tensor_host(table, SKIM_U32),
        .table_count = PAGES,
        .k = skim_tensor_host(test->k, shape->type),
        .v = skim_tensor_host(test->v, shape->type),
        .bounds = test->bounds,
        .centre = test->centre,
        .freeze = test->centre != NULL,
    };
    skim_layer_paged(shape, test->pages, &append.keys, &append.values);
    skim_status status = skim_append(test->queue, &append);
    row.query_count = 1;
    skim_estimate_args estimate = {
        .size_of = sizeof estimate,
        .shape = shape,
        .rows = append.rows,
        .row_count = 1,
        .token_count = 1,
        .table = append.table,
        .table_count = PAGES,
        .q = skim_tensor_host(test->q, SKIM_F32),
        .bounds = test->bounds,
        .centre = test->centre,
        .spread = 1.0f,
        .scores = test->scores,
        .score_stride = PAGES,
    };
    if (status == SKIM_OK)
        status = skim_estimate(test->queue, &estimate);
    skim_select_args select = {
        .size_of = sizeof select,
        .shape = shape,
        .rows = append.rows,
        .row_count = 1,
        .scores = test->scores,
        .score_stride = PAGES,
        .lists = test->lists,
        .list_stride = PAGES,
    };
    if (status == SKIM_OK)
        status = skim_select(test->queue, &select);
    skim_attend_args attend = {
        .size_of = sizeof attend,
        .shape = shape,
        .rows = append.rows,
        .row_count = 1,
        .token_count = 1,
        .table = append.table,
        .table_count = PAGES,
        .q = estimate.q,
        .keys = append.keys,
        .values = append.values,
        .lists = test->lists,
        .list_stride = PAGES,
        .out = skim_tensor_host(test->out, SKIM_F32),
    };
    if (status == SKIM_OK)
        status = skim_attend(test->queue, &attend);
    if (status == SKIM_OK)
        status = skim_queue_download(test->queue, test->lists, 0, test->list, sizeof test->list);
    return status;
}

static bool is_right(const self_test *test)
{
    const skim_shape *shape = &test->shape;
    uint32_t group = shape->q_heads / shape->kv_heads;
    if (test->list[0] != 1 || test->list[1] != 3)
        return false;
    for (uint32_t h = 0; h < shape->q_heads; h++) {
        for (uint32_t d = 0; d < shape->key_dim; d++) {
            float sum = 0.0f;
            for (uint32_t t = 0; t < shape->page_size; t++) {
                sum += value_of(shape->page_size + t, h / group, d);
                sum += value_of(3 * shape->page_size + t, h / group, d);
            }
            float mean = sum / (float)(2 * shape->page_size);
            if (!(fabsf(test->out[(size_t)h * shape->key_dim + d] - mean) <= 1e-3f))
                return false;
        }
    }
    return true;
}

skim_status skim_cache_self_test(skim_cache *cache, const skim_cache_layer *layer)
{
    self_test test = {.queue = cache->queue, .shape = layer->shape};
    test.tokens = PAGES * test.shape.page_size;
    test.shape.slots = PAGES;
    test.shape.max_rows = 1;
    test.shape.max_tokens = test.tokens;
    test.shape.max_pages = PAGES;
    skim_status status = skim_queue_prepare(test.queue, &test.shape);
    if (status == SKIM_OK && (status = allocate(&test)) != SKIM_OK)
        skim_fail(&cache->queue->base.error, status, "%s in the self-test of %u/%u heads of %u",
                  skim_status_name(status), test.shape.q_heads, test.shape.kv_heads,
                  test.shape.key_dim);
    if (status == SKIM_OK) {
        fill(&test);
        status = record(&test);
    }
    // Also after a failure: what was recorded must not outlive its buffers.
    skim_status finished = skim_queue_drain(test.queue);
    if (status == SKIM_OK)
        status = finished;
    if (status == SKIM_OK && !is_right(&test))
        status = skim_fail(&cache->queue->base.error, SKIM_FAILED,
                           "the device fails the self-test of %u/%u heads of %u in %s: its driver "
                           "or compiler is wrong; use another device",
                           test.shape.q_heads, test.shape.kv_heads, test.shape.key_dim,
                           skim_type_name(test.shape.type));
    release(&test);
    return status;
}
