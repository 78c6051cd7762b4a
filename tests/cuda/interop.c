// The host's own CUDA beside Skim's: its context stays as it was, queues record on its stream,
// buffers are its memory, events order both; and a step that was captured once is replayed for many
// tokens. The host speaks to the driver itself, as an application would.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "skim/cuda.h"
#include "skim/skim.h"

#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { GROUP = 4, KV_HEADS = 2, Q_HEADS = GROUP * KV_HEADS, DIM = 64, PAGE = 16 };
enum { PAGES = 12, CHOSEN = 3, PROMPT = 90, TOKENS = 60 };
enum { KEY = KV_HEADS * DIM, QUERY = Q_HEADS * DIM, SLOT = KV_HEADS * 2 * PAGE * DIM };

#define HOST_FUNCTIONS(X)                                                                          \
    X(Init)                                                                                        \
    X(DeviceGet)                                                                                   \
    X(DevicePrimaryCtxRetain)                                                                      \
    X(DevicePrimaryCtxRelease)                                                                     \
    X(CtxPushCurrent)                                                                              \
    X(CtxPopCurrent)                                                                               \
    X(CtxGetCurrent)                                                                               \
    X(MemAlloc)                                                                                    \
    X(MemFree)                                                                                     \
    X(MemHostAlloc)                                                                                \
    X(MemFreeHost)                                                                                 \
    X(MemcpyHtoDAsync)                                                                             \
    X(MemcpyDtoHAsync)                                                                             \
    X(StreamCreate)                                                                                \
    X(StreamDestroy)                                                                               \
    X(StreamSynchronize)                                                                           \
    X(EventCreate)                                                                                 \
    X(EventDestroy)                                                                                \
    X(EventRecord)                                                                                 \
    X(EventSynchronize)                                                                            \
    X(StreamBeginCapture)                                                                          \
    X(StreamEndCapture)                                                                            \
    X(GraphInstantiate)                                                                            \
    X(GraphLaunch)                                                                                 \
    X(GraphDestroy)                                                                                \
    X(GraphExecDestroy)

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

static struct {
#define MEMBER(name) __typeof__(cu##name) *name;
    HOST_FUNCTIONS(MEMBER)
#undef MEMBER
} cuda;

static bool find_functions(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
#define FIND(name)                                                                                 \
    {                                                                                              \
        void *symbol = library ? dlsym(library, TEXT(cu##name)) : NULL;                            \
        memcpy(&cuda.name, &symbol, sizeof symbol);                                                \
        if (!symbol)                                                                               \
            return false;                                                                          \
    }
    HOST_FUNCTIONS(FIND)
#undef FIND
    return cuda.Init(0) == CUDA_SUCCESS;
}

// ---- what both devices do

// FAR slots are 32 GiB of keys and values, and 2^33 elements of them.
enum { FAR = 1 << 21 };

static skim_shape shape = {.size_of = sizeof shape,
                           .q_heads = Q_HEADS,
                           .kv_heads = KV_HEADS,
                           .key_dim = DIM,
                           .value_dim = DIM,
                           .page_size = PAGE,
                           .type = SKIM_F32,
                           .slots = PAGES,
                           .max_rows = 1,
                           .max_tokens = PROMPT,
                           .max_pages = PAGES};

// One token's tensors, and all that a step of it needs.
enum { ROW, TABLE, K, V, Q, POOLS, BOUNDS, SCORES, LISTS, OUT, BUFFERS };

typedef struct layer {
    skim_queue *queue;
    skim_buffer *buffers[BUFFERS];
} layer;

static uint64_t size_of(skim_device *device, int buffer)
{
    uint64_t bounds = 0;
    assert_int_equal(skim_bounds_size(device, &shape, &bounds), SKIM_OK);
    const uint64_t sizes[BUFFERS] = {[ROW] = sizeof(skim_row),
                                     [TABLE] = PAGES * 4,
                                     [K] = KEY * PROMPT * 4,
                                     [V] = KEY * PROMPT * 4,
                                     [Q] = QUERY * 4,
                                     [POOLS] = (uint64_t)shape.slots * SLOT * 4,
                                     [BOUNDS] = bounds,
                                     [SCORES] = Q_HEADS * PAGES * 4,
                                     [LISTS] = KV_HEADS * CHOSEN * 4,
                                     [OUT] = QUERY * 4};
    return sizes[buffer];
}

static skim_paged pool_of(const layer *l, uint64_t first)
{
    return (skim_paged){.buffer = l->buffers[POOLS],
                        .offset = first * sizeof(float),
                        .page_stride = KV_HEADS * 2 * PAGE * DIM,
                        .head_stride = 2 * PAGE * DIM,
                        .token_stride = DIM};
}

static skim_row row_of(uint32_t length, uint32_t count)
{
    return (skim_row){.length = length,
                      .query_count = count,
                      .page_count = (length + PAGE - 1) / PAGE,
                      .select_count = CHOSEN,
                      .forced_last = 1};
}

static skim_tensor words(const layer *l, int buffer)
{
    return skim_tensor_buffer(l->buffers[buffer], 0, SKIM_U32);
}

static void append(const layer *l, uint32_t tokens)
{
    const skim_append_args args = {.size_of = sizeof args,
                                   .shape = &shape,
                                   .rows = words(l, ROW),
                                   .row_count = 1,
                                   .token_count = tokens,
                                   .table = words(l, TABLE),
                                   .table_count = PAGES,
                                   .k = skim_tensor_buffer(l->buffers[K], 0, SKIM_F32),
                                   .v = skim_tensor_buffer(l->buffers[V], 0, SKIM_F32),
                                   .keys = pool_of(l, 0),
                                   .values = pool_of(l, PAGE * DIM),
                                   .bounds = l->buffers[BOUNDS]};
    assert_int_equal(skim_append(l->queue, &args), SKIM_OK);
}

// Records a step of one token, whose row says where the sequence is.
static void decode(const layer *l)
{
    append(l, 1);
    const skim_estimate_args estimate = {.size_of = sizeof estimate,
                                         .shape = &shape,
                                         .rows = words(l, ROW),
                                         .row_count = 1,
                                         .token_count = 1,
                                         .table = words(l, TABLE),
                                         .table_count = PAGES,
                                         .q = skim_tensor_buffer(l->buffers[Q], 0, SKIM_F32),
                                         .bounds = l->buffers[BOUNDS],
                                         .scores = l->buffers[SCORES],
                                         .score_stride = PAGES};
    assert_int_equal(skim_estimate(l->queue, &estimate), SKIM_OK);
    const skim_select_args select = {.size_of = sizeof select,
                                     .shape = &shape,
                                     .rows = words(l, ROW),
                                     .row_count = 1,
                                     .scores = l->buffers[SCORES],
                                     .score_stride = PAGES,
                                     .select = SKIM_SELECT_GROUP,
                                     .lists = l->buffers[LISTS],
                                     .list_stride = CHOSEN};
    assert_int_equal(skim_select(l->queue, &select), SKIM_OK);
    const skim_attend_args attend = {.size_of = sizeof attend,
                                     .shape = &shape,
                                     .rows = words(l, ROW),
                                     .row_count = 1,
                                     .token_count = 1,
                                     .table = words(l, TABLE),
                                     .table_count = PAGES,
                                     .q = skim_tensor_buffer(l->buffers[Q], 0, SKIM_F32),
                                     .keys = pool_of(l, 0),
                                     .values = pool_of(l, PAGE * DIM),
                                     .select = SKIM_SELECT_GROUP,
                                     .lists = l->buffers[LISTS],
                                     .list_stride = CHOSEN,
                                     .out = skim_tensor_buffer(l->buffers[OUT], 0, SKIM_F32)};
    assert_int_equal(skim_attend(l->queue, &attend), SKIM_OK);
}

static float noise(uint32_t seed)
{
    seed = (seed ^ seed >> 15) * 2246822519u;
    seed = (seed ^ seed >> 13) * 3266489917u;
    return (float)((seed ^ seed >> 16) >> 8) / 8388608.0f - 1.0f;
}

// Pages differ by how far their keys go along the queries, so that rounding changes no choice.
static void make_token(uint32_t token, float *k, float *v, float *q)
{
    const float reach = (float)(token / PAGE * 3 % 7) * 0.4f;
    for (uint32_t i = 0; i < KEY; i++) {
        k[i] = (i % 2 ? reach : -reach) + noise(token * KEY + i) * 0.25f;
        v[i] = noise(token * KEY + i + 1000000);
    }
    for (uint32_t i = 0; i < QUERY; i++)
        q[i] = (i % 2 ? 0.25f : -0.25f) + noise(token * QUERY + i + 2000000) * 0.0625f;
}

// ---- the CPU, step by step

static float expected[TOKENS][QUERY];
static float prompt_k[PROMPT * KEY], prompt_v[PROMPT * KEY];

static void upload(const layer *l, int buffer, const void *data, uint64_t size)
{
    assert_int_equal(skim_queue_upload(l->queue, l->buffers[buffer], 0, data, size), SKIM_OK);
}

static void fill_table(uint32_t *table)
{
    for (uint32_t i = 0; i < PAGES; i++)
        table[i] = shape.slots - 1 - (i * 5 + 3) % PAGES * (shape.slots / PAGES);
}

static void run_cpu(void)
{
    skim_runtime *runtime;
    skim_device *device;
    layer l;
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    assert_int_equal(skim_device_open(runtime, "cpu", NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &l.queue), SKIM_OK);
    assert_int_equal(skim_queue_prepare(l.queue, &shape), SKIM_OK);
    for (int b = 0; b < BUFFERS; b++)
        assert_int_equal(skim_buffer_create(device, size_of(device, b), &l.buffers[b]), SKIM_OK);
    uint32_t table[PAGES];
    fill_table(table);
    float k[KEY], v[KEY], q[QUERY];
    for (uint32_t t = 0; t < PROMPT; t++)
        make_token(t, &prompt_k[t * KEY], &prompt_v[t * KEY], q);
    const skim_row prompt = row_of(PROMPT, PROMPT);
    upload(&l, TABLE, table, sizeof table);
    upload(&l, ROW, &prompt, sizeof prompt);
    upload(&l, K, prompt_k, sizeof prompt_k);
    upload(&l, V, prompt_v, sizeof prompt_v);
    append(&l, PROMPT);
    for (uint32_t t = 0; t < TOKENS; t++) {
        const skim_row row = row_of(PROMPT + t + 1, 1);
        make_token(PROMPT + t, k, v, q);
        upload(&l, ROW, &row, sizeof row);
        upload(&l, K, k, sizeof k);
        upload(&l, V, v, sizeof v);
        upload(&l, Q, q, sizeof q);
        decode(&l);
        assert_int_equal(
            skim_queue_download(l.queue, l.buffers[OUT], 0, expected[t], sizeof expected[t]),
            SKIM_OK);
        assert_int_equal(skim_queue_finish(l.queue), SKIM_OK);
    }
    skim_queue_destroy(l.queue);
    for (int b = 0; b < BUFFERS; b++)
        skim_buffer_destroy(l.buffers[b]);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
}

// ---- the host's CUDA

typedef struct host {
    CUcontext context;
    CUstream stream;
    CUdeviceptr memory[BUFFERS];
    char *pinned; // what is copied to and from the device
    skim_runtime *runtime;
    skim_device *device;
    layer l;
} host;

enum { PINNED = 1 << 20 };

static void open_host(host *h)
{
    CUdevice device;
    memset(h, 0, sizeof *h);
    assert_int_equal(cuda.DeviceGet(&device, 0), CUDA_SUCCESS);
    assert_int_equal(cuda.DevicePrimaryCtxRetain(&h->context, device), CUDA_SUCCESS);
    assert_int_equal(cuda.CtxPushCurrent(h->context), CUDA_SUCCESS);
    assert_int_equal(cuda.StreamCreate(&h->stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    void *pinned;
    assert_int_equal(cuda.MemHostAlloc(&pinned, PINNED, 0), CUDA_SUCCESS);
    h->pinned = pinned;
    assert_int_equal(skim_runtime_create(NULL, &h->runtime), SKIM_OK);
    const skim_cuda_options options = {.size_of = sizeof options, .context = h->context};
    assert_int_equal(skim_cuda_device_open(h->runtime, &options, &h->device), SKIM_OK);
    assert_int_equal(skim_cuda_queue_create(h->device, h->stream, &h->l.queue), SKIM_OK);
    assert_int_equal(skim_queue_prepare(h->l.queue, &shape), SKIM_OK);
    for (int b = 0; b < BUFFERS; b++) {
        const uint64_t size = size_of(h->device, b);
        if (cuda.MemAlloc(&h->memory[b], size) != CUDA_SUCCESS)
            fail_msg("%llu bytes are not to be had", (unsigned long long)size);
        assert_int_equal(skim_cuda_buffer_wrap(h->device, h->memory[b], size, &h->l.buffers[b]),
                         SKIM_OK);
        assert_true(skim_cuda_buffer_address(h->l.buffers[b]) == h->memory[b]);
    }
}

static void close_host(host *h)
{
    CUcontext current;
    skim_queue_destroy(h->l.queue);
    for (int b = 0; b < BUFFERS; b++)
        skim_buffer_destroy(h->l.buffers[b]);
    skim_device_close(h->device);
    skim_runtime_destroy(h->runtime);
    // What is the host's is there still.
    for (int b = 0; b < BUFFERS; b++)
        assert_int_equal(cuda.MemFree(h->memory[b]), CUDA_SUCCESS);
    assert_int_equal(cuda.MemFreeHost(h->pinned), CUDA_SUCCESS);
    assert_int_equal(cuda.StreamDestroy(h->stream), CUDA_SUCCESS);
    assert_int_equal(cuda.CtxGetCurrent(&current), CUDA_SUCCESS);
    assert_ptr_equal(current, h->context);
    assert_int_equal(cuda.CtxPopCurrent(&current), CUDA_SUCCESS);
    assert_int_equal(cuda.DevicePrimaryCtxRelease(0), CUDA_SUCCESS);
}

// On the host's stream, by way of its pinned memory.
static void put(host *h, CUstream stream, int buffer, uint64_t at, const void *data, uint64_t size)
{
    memcpy(h->pinned + at, data, size);
    assert_int_equal(cuda.MemcpyHtoDAsync(h->memory[buffer], h->pinned + at, size, stream),
                     CUDA_SUCCESS);
}

static void put_prompt(host *h)
{
    uint32_t table[PAGES];
    fill_table(table);
    const skim_row row = row_of(PROMPT, PROMPT);
    put(h, h->stream, TABLE, 0, table, sizeof table);
    put(h, h->stream, ROW, 4096, &row, sizeof row);
    put(h, h->stream, K, 65536, prompt_k, sizeof prompt_k);
    put(h, h->stream, V, 65536 + sizeof prompt_k, prompt_v, sizeof prompt_v);
    append(&h->l, PROMPT);
    assert_int_equal(cuda.StreamSynchronize(h->stream), CUDA_SUCCESS);
}

static void put_token(host *h, CUstream stream, uint32_t token)
{
    float k[KEY], v[KEY], q[QUERY];
    const skim_row row = row_of(PROMPT + token + 1, 1);
    make_token(PROMPT + token, k, v, q);
    put(h, stream, ROW, 0, &row, sizeof row);
    put(h, stream, K, 4096, k, sizeof k);
    put(h, stream, V, 8192, v, sizeof v);
    put(h, stream, Q, 16384, q, sizeof q);
}

static void check_token(host *h, uint32_t token)
{
    float *out = (float *)(h->pinned + 32768);
    assert_int_equal(cuda.MemcpyDtoHAsync(out, h->memory[OUT], QUERY * sizeof *out, h->stream),
                     CUDA_SUCCESS);
    assert_int_equal(cuda.StreamSynchronize(h->stream), CUDA_SUCCESS);
    for (uint32_t i = 0; i < QUERY; i++)
        if (!(fabsf(out[i] - expected[token][i]) <= 1e-5f))
            fail_msg("token %u: element %u is %g, should be %g", token, i, (double)out[i],
                     (double)expected[token][i]);
}

// ---- tests

static void test_the_hosts_stream_orders_its_copies_with_steps(void **state)
{
    (void)state;
    host h;
    open_host(&h);
    put_prompt(&h);
    for (uint32_t t = 0; t < TOKENS; t++) {
        put_token(&h, h.stream, t);
        decode(&h.l);
        check_token(&h, t);
    }
    close_host(&h);
}

static void test_a_captured_step_serves_every_token(void **state)
{
    (void)state;
    host h;
    CUgraph graph;
    CUgraphExec step;
    open_host(&h);
    put_prompt(&h);
    assert_int_equal(cuda.StreamBeginCapture(h.stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
                     CUDA_SUCCESS);
    decode(&h.l);
    assert_int_equal(cuda.StreamEndCapture(h.stream, &graph), CUDA_SUCCESS);
    assert_int_equal(cuda.GraphInstantiate(&step, graph, 0), CUDA_SUCCESS);
    assert_int_equal(cuda.GraphDestroy(graph), CUDA_SUCCESS);
    for (uint32_t t = 0; t < TOKENS; t++) {
        put_token(&h, h.stream, t);
        assert_int_equal(cuda.GraphLaunch(step, h.stream), CUDA_SUCCESS);
        check_token(&h, t);
    }
    assert_int_equal(cuda.GraphExecDestroy(step), CUDA_SUCCESS);
    close_host(&h);
}

static void test_what_a_capture_cannot_hold_is_refused(void **state)
{
    (void)state;
    host h;
    CUgraph graph;
    char text[256];
    uint32_t number = 1;
    open_host(&h);
    put_prompt(&h);
    assert_int_equal(cuda.StreamBeginCapture(h.stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
                     CUDA_SUCCESS);
    assert_int_equal(skim_queue_upload(h.l.queue, h.l.buffers[SCORES], 0, &number, 4),
                     SKIM_UNSUPPORTED);
    skim_queue_error(h.l.queue, text, sizeof text);
    assert_non_null(strstr(text, "captured"));
    assert_int_equal(skim_queue_download(h.l.queue, h.l.buffers[SCORES], 0, &number, 4),
                     SKIM_UNSUPPORTED);
    assert_int_equal(skim_queue_mark(h.l.queue, 0), SKIM_UNSUPPORTED);
    assert_int_equal(skim_queue_zero(h.l.queue, h.l.buffers[SCORES], 0, 4), SKIM_OK);
    assert_int_equal(skim_queue_submit(h.l.queue, NULL), SKIM_STATE);
    assert_int_equal(cuda.StreamEndCapture(h.stream, &graph), CUDA_SUCCESS);
    assert_int_equal(cuda.GraphDestroy(graph), CUDA_SUCCESS);
    // And the queue goes on.
    put_token(&h, h.stream, 0);
    decode(&h.l);
    check_token(&h, 0);
    assert_int_equal(skim_queue_finish(h.l.queue), SKIM_OK);
    close_host(&h);
}

static void test_events_order_two_streams(void **state)
{
    (void)state;
    host h;
    CUstream other;
    CUevent there, done;
    open_host(&h);
    put_prompt(&h);
    assert_int_equal(cuda.StreamCreate(&other, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
    assert_int_equal(cuda.EventCreate(&there, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
    assert_int_equal(cuda.EventCreate(&done, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
    for (uint32_t t = 0; t < TOKENS; t++) {
        put_token(&h, other, t);
        assert_int_equal(cuda.EventRecord(there, other), CUDA_SUCCESS);
        assert_int_equal(skim_cuda_queue_wait_event(h.l.queue, there), SKIM_OK);
        decode(&h.l);
        assert_int_equal(skim_cuda_queue_record_event(h.l.queue, done), SKIM_OK);
        assert_int_equal(cuda.EventSynchronize(done), CUDA_SUCCESS);
        check_token(&h, t);
    }
    assert_int_equal(skim_cuda_queue_wait_event(h.l.queue, NULL), SKIM_INVALID);
    assert_int_equal(cuda.EventDestroy(there), CUDA_SUCCESS);
    assert_int_equal(cuda.EventDestroy(done), CUDA_SUCCESS);
    assert_int_equal(cuda.StreamDestroy(other), CUDA_SUCCESS);
    close_host(&h);
}

// The slots that the CPU's sequence has in twelve, spread over two million.
static void test_pages_past_4_gib_are_where_they_should(void **state)
{
    (void)state;
    host h;
    shape.slots = FAR;
    open_host(&h);
    put_prompt(&h);
    for (uint32_t t = 0; t < TOKENS; t++) {
        put_token(&h, h.stream, t);
        decode(&h.l);
        check_token(&h, t);
    }
    close_host(&h);
    shape.slots = PAGES;
}

static void test_wrong_objects_are_refused(void **state)
{
    (void)state;
    host h;
    skim_device *device;
    skim_queue *queue;
    skim_buffer *buffer;
    open_host(&h);
    const skim_cuda_options both = {
        .size_of = sizeof both, .selector = "cuda", .context = h.context};
    const skim_cuda_options wrong = {.size_of = sizeof wrong, .selector = "cpu"};
    assert_int_equal(skim_cuda_device_open(h.runtime, &both, &device), SKIM_INVALID);
    assert_int_equal(skim_cuda_device_open(h.runtime, &wrong, &device), SKIM_INVALID);
    assert_int_equal(skim_cuda_queue_create(h.device, NULL, &queue), SKIM_INVALID);
    assert_int_equal(skim_cuda_buffer_wrap(h.device, h.memory[OUT] + 4, 16, &buffer),
                     SKIM_UNSUPPORTED);
    assert_int_equal(skim_device_open(h.runtime, "cpu", NULL, &device), SKIM_OK);
    assert_int_equal(skim_cuda_queue_create(device, h.stream, &queue), SKIM_UNSUPPORTED);
    assert_int_equal(skim_cuda_buffer_wrap(device, h.memory[OUT], 16, &buffer), SKIM_UNSUPPORTED);
    skim_device_close(device);
    // The host's device has the name of the one that was found.
    skim_device_info info = {.size_of = sizeof info};
    assert_int_equal(skim_device_get_info(h.device, &info), SKIM_OK);
    assert_string_equal(info.selector, "cuda:0");
    close_host(&h);
}

int main(void)
{
    if (!find_functions()) {
        puts("no CUDA driver with a GPU here");
        return 77;
    }
    run_cpu();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hosts_stream_orders_its_copies_with_steps),
        cmocka_unit_test(test_a_captured_step_serves_every_token),
        cmocka_unit_test(test_what_a_capture_cannot_hold_is_refused),
        cmocka_unit_test(test_events_order_two_streams),
        cmocka_unit_test(test_pages_past_4_gib_are_where_they_should),
        cmocka_unit_test(test_wrong_objects_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
