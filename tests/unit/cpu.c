// The CPU backend's threads and queue: the host's pool, asynchronous submission, several queues at
// once, allocations that fail. What it computes is the conformance suite's to check.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "skim/cpu.h"
#include "skim/skim.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { Q_HEADS = 6, KV_HEADS = 3, DIM = 40, TOKENS = 700, PREFILL = 699 };

typedef struct world {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
    skim_cache *cache;
    skim_sequence *sequence;
} world;

static float k[TOKENS * KV_HEADS * DIM], v[TOKENS * KV_HEADS * DIM], q[TOKENS * Q_HEADS * DIM];

static void fill(float *data, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
    }
}

static int fill_all(void **state)
{
    (void)state;
    fill(k, TOKENS * KV_HEADS * DIM, 1);
    fill(v, TOKENS * KV_HEADS * DIM, 2);
    fill(q, TOKENS * Q_HEADS * DIM, 3);
    return 0;
}

static void open_cache(world *w)
{
    skim_layer layer = {.size_of = sizeof layer,
                        .q_heads = Q_HEADS,
                        .kv_heads = KV_HEADS,
                        .key_dim = DIM,
                        .type = SKIM_F32};
    skim_policy policy = skim_policy_defaults();
    policy.dense_layers = 0;
    policy.budget = 96;
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = &layer,
                                  .layer_count = 1,
                                  .capacity = 1024,
                                  .max_step_tokens = TOKENS,
                                  .policy = &policy};
    assert_int_equal(skim_queue_create(w->device, &w->queue), SKIM_OK);
    assert_int_equal(skim_cache_create(w->queue, &options, &w->cache), SKIM_OK);
    assert_int_equal(skim_sequence_create(w->cache, &w->sequence), SKIM_OK);
}

static void open_world(world *w, const skim_cpu_options *options)
{
    assert_int_equal(skim_runtime_create(NULL, &w->runtime), SKIM_OK);
    assert_int_equal(skim_cpu_device_open(w->runtime, options, &w->device), SKIM_OK);
    open_cache(w);
}

static void close_world(world *w)
{
    skim_cache_destroy(w->cache);
    skim_queue_destroy(w->queue);
    skim_device_close(w->device);
    skim_runtime_destroy(w->runtime);
}

// One step of so many tokens from token `first` on; out has room for them.
static uint64_t record_step(world *w, uint32_t first, uint32_t tokens, float *out)
{
    skim_step *step;
    skim_step_entry entry = {w->sequence, tokens};
    assert_int_equal(skim_step_begin(w->cache, &entry, 1, &step), SKIM_OK);
    skim_tensor new_k = skim_tensor_host(k + first * KV_HEADS * DIM, SKIM_F32);
    skim_tensor new_v = skim_tensor_host(v + first * KV_HEADS * DIM, SKIM_F32);
    assert_int_equal(skim_step_append(step, 0, &new_k, &new_v), SKIM_OK);
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = skim_tensor_host(q + first * Q_HEADS * DIM, SKIM_F32),
                                  .out = skim_tensor_host(out, SKIM_F32)};
    assert_int_equal(skim_step_attend(step, 0, &args), SKIM_OK);
    uint64_t point = 0;
    assert_int_equal(skim_step_end(step, &point), SKIM_OK);
    return point;
}

// Prefill and one sparse token.
static void run(world *w, float *out)
{
    static _Thread_local float prefill[PREFILL * Q_HEADS * DIM];
    record_step(w, 0, PREFILL, prefill);
    record_step(w, PREFILL, 1, out);
    assert_int_equal(skim_queue_finish(w->queue), SKIM_OK);
    memcpy(out + Q_HEADS * DIM, prefill + (PREFILL - 1) * Q_HEADS * DIM,
           Q_HEADS * DIM * sizeof *out);
}

typedef float result[2 * Q_HEADS * DIM];

static void run_serially(void *user, uint32_t count, void (*task)(void *, uint32_t), void *argument)
{
    ++*(uint32_t *)user;
    for (uint32_t i = count; i-- > 0;)
        task(argument, i);
}

static void the_hosts_pool_computes_the_same_bits(void **state)
{
    (void)state;
    static result own, hosts;
    world w;
    skim_cpu_options options = {.size_of = sizeof options, .threads = 3};
    open_world(&w, &options);
    run(&w, own);
    close_world(&w);
    uint32_t calls = 0;
    options.pool = (skim_cpu_pool){.run = run_serially, .user = &calls, .threads = 3};
    open_world(&w, &options);
    skim_limits limits = {.size_of = sizeof limits};
    assert_int_equal(skim_device_get_limits(w.device, &limits), SKIM_OK);
    assert_int_equal(limits.threads, 3);
    run(&w, hosts);
    close_world(&w);
    assert_true(calls > 0);
    assert_memory_equal(own, hosts, sizeof own);
}

static void a_pool_needs_threads(void **state)
{
    (void)state;
    skim_runtime *runtime;
    skim_device *device = NULL;
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    skim_cpu_options options = {.size_of = sizeof options, .pool = {.run = run_serially}};
    assert_int_equal(skim_cpu_device_open(runtime, &options, &device), SKIM_INVALID);
    assert_int_equal(skim_cpu_device_open(runtime, NULL, NULL), SKIM_INVALID);
    assert_int_equal(skim_cpu_device_open(NULL, NULL, &device), SKIM_INVALID);
    options.size_of = 1;
    assert_int_equal(skim_cpu_device_open(runtime, &options, &device), SKIM_INVALID);
    assert_null(device);
    skim_runtime_destroy(runtime);
}

// Submitted and never waited for: the queue's own thread gets it done.
static void submitted_work_is_done_without_a_waiter(void **state)
{
    (void)state;
    world w;
    open_world(&w, NULL);
    static float prefill[PREFILL * Q_HEADS * DIM];
    record_step(&w, 0, PREFILL, prefill);
    assert_int_equal(skim_queue_mark(w.queue, 5), SKIM_OK);
    assert_int_equal(skim_queue_submit(w.queue, NULL), SKIM_OK);
    uint64_t time;
    while (skim_queue_mark_time(w.queue, 5, &time) == SKIM_STATE)
        sched_yield();
    close_world(&w);
}

static void points_are_reached_in_order(void **state)
{
    (void)state;
    world w;
    static float out[3][Q_HEADS * DIM];
    static float prefill[PREFILL * Q_HEADS * DIM];
    open_world(&w, NULL);
    uint64_t first = record_step(&w, 0, PREFILL, prefill);
    uint64_t second = record_step(&w, PREFILL, 1, out[0]);
    assert_true(first < second);
    assert_int_equal(skim_queue_wait(w.queue, second + 1, 0), SKIM_INVALID);
    while (skim_queue_wait(w.queue, second, 1000000) == SKIM_TIMEOUT) {
    }
    assert_int_equal(skim_queue_wait(w.queue, first, 0), SKIM_OK);
    assert_int_equal(skim_queue_wait(w.queue, second, 0), SKIM_OK);
    uint64_t point;
    assert_int_equal(skim_queue_submit(w.queue, &point), SKIM_OK); // nothing recorded
    assert_int_equal(point, second);
    close_world(&w);
}

static void marks_tell_the_time_once_reached(void **state)
{
    (void)state;
    world w;
    static float prefill[PREFILL * Q_HEADS * DIM];
    open_world(&w, NULL);
    uint64_t before, after;
    assert_int_equal(skim_queue_mark_time(w.queue, 0, &before), SKIM_STATE);
    assert_int_equal(skim_queue_mark(w.queue, 0), SKIM_OK);
    assert_int_equal(skim_queue_mark_time(w.queue, 0, &before), SKIM_STATE);
    record_step(&w, 0, PREFILL, prefill);
    assert_int_equal(skim_queue_mark(w.queue, 1), SKIM_OK);
    assert_int_equal(skim_queue_finish(w.queue), SKIM_OK);
    assert_int_equal(skim_queue_mark_time(w.queue, 0, &before), SKIM_OK);
    assert_int_equal(skim_queue_mark_time(w.queue, 1, &after), SKIM_OK);
    assert_true(after > before);
    close_world(&w);
}

static void uploads_are_ordered_with_the_work_around_them(void **state)
{
    (void)state;
    world w;
    open_world(&w, NULL);
    skim_buffer *buffer;
    uint8_t seen[4][64], bytes[64];
    assert_int_equal(skim_buffer_create(w.device, 64, &buffer), SKIM_OK);
    for (int i = 0; i < 3; i++) {
        memset(bytes, 10 + i, sizeof bytes);
        assert_int_equal(skim_queue_upload(w.queue, buffer, 0, bytes, 64), SKIM_OK);
        assert_int_equal(skim_queue_download(w.queue, buffer, 0, seen[i], 64), SKIM_OK);
    }
    assert_int_equal(skim_queue_zero(w.queue, buffer, 32, 32), SKIM_OK);
    assert_int_equal(skim_queue_download(w.queue, buffer, 0, seen[3], 64), SKIM_OK);
    assert_int_equal(skim_queue_finish(w.queue), SKIM_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen[i][63], 10 + i);
    assert_int_equal(seen[3][31], 12);
    assert_int_equal(seen[3][32], 0);
    skim_buffer_destroy(buffer);
    close_world(&w);
}

typedef struct lane {
    world world;
    result out;
} lane;

static void *run_lane(void *argument)
{
    lane *l = argument;
    run(&l->world, l->out);
    return NULL;
}

static void queues_of_one_device_run_from_several_threads(void **state)
{
    (void)state;
    enum { LANES = 3 };
    static lane lanes[LANES];
    world w;
    skim_cpu_options options = {.size_of = sizeof options, .threads = 2};
    open_world(&w, &options);
    static result alone;
    run(&w, alone);
    pthread_t threads[LANES];
    for (int i = 0; i < LANES; i++) {
        lanes[i].world = (world){.runtime = w.runtime, .device = w.device};
        open_cache(&lanes[i].world);
    }
    for (int i = 0; i < LANES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_lane, &lanes[i]), 0);
    for (int i = 0; i < LANES; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LANES; i++) {
        assert_memory_equal(lanes[i].out, alone, sizeof alone);
        skim_cache_destroy(lanes[i].world.cache);
        skim_queue_destroy(lanes[i].world.queue);
    }
    close_world(&w);
}

// --- an allocator that fails at one call and counts what is alive

typedef struct counting {
    atomic_int calls;
    atomic_int alive;
    int fail_at; // 0: never
} counting;

static void *count_allocate(void *user, size_t size, size_t alignment)
{
    counting *c = user;
    if (atomic_fetch_add(&c->calls, 1) + 1 == c->fail_at)
        return NULL;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < 16 ? 16 : alignment, size) != 0)
        return NULL;
    memset(memory, 0xff, size); // NaN, and no zero that somebody might count on
    atomic_fetch_add(&c->alive, 1);
    return memory;
}

static void count_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)size;
    (void)alignment;
    atomic_fetch_sub(&((counting *)user)->alive, 1);
    free(memory);
}

// From the runtime to a finished step; the first failure's status.
static skim_status try_all(counting *c)
{
    world w = {NULL, NULL, NULL, NULL, NULL};
    skim_step *step = NULL;
    float out[Q_HEADS * DIM];
    skim_runtime_options options = {.size_of = sizeof options,
                                    .allocator = {count_allocate, count_release, c}};
    skim_layer layer = {.size_of = sizeof layer,
                        .q_heads = Q_HEADS,
                        .kv_heads = KV_HEADS,
                        .key_dim = DIM,
                        .type = SKIM_F32};
    skim_cache_options cache = {
        .size_of = sizeof cache, .layers = &layer, .layer_count = 1, .capacity = 64};
    skim_device_options device = {.size_of = sizeof device, .threads = 2};
    skim_tensor tensor = skim_tensor_host(k, SKIM_F32);
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = skim_tensor_host(q, SKIM_F32),
                                  .out = skim_tensor_host(out, SKIM_F32)};
    skim_status status = skim_runtime_create(&options, &w.runtime);
    if (status == SKIM_OK)
        status = skim_device_open(w.runtime, "cpu", &device, &w.device);
    if (status == SKIM_OK)
        status = skim_queue_create(w.device, &w.queue);
    if (status == SKIM_OK)
        status = skim_cache_create(w.queue, &cache, &w.cache);
    if (status == SKIM_OK)
        status = skim_sequence_create(w.cache, &w.sequence);
    if (status == SKIM_OK)
        status = skim_step_begin(w.cache, &(skim_step_entry){w.sequence, 1}, 1, &step);
    if (status == SKIM_OK)
        status = skim_step_append(step, 0, &tensor, &tensor);
    if (status == SKIM_OK)
        status = skim_step_attend(step, 0, &args);
    if (status == SKIM_OK)
        status = skim_step_end(step, NULL);
    if (status == SKIM_OK)
        status = skim_queue_finish(w.queue);
    close_world(&w);
    return status;
}

static void every_allocation_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    counting c = {0};
    assert_int_equal(try_all(&c), SKIM_OK);
    assert_int_equal(c.alive, 0);
    int calls = c.calls;
    assert_true(calls > 15);
    for (int at = 1; at <= calls; at++) {
        counting failing = {.fail_at = at};
        skim_status status = try_all(&failing);
        assert_int_equal(failing.alive, 0);
        if (failing.calls >= at)
            assert_int_equal(status, SKIM_NO_MEMORY);
    }
}

static void a_decode_step_allocates_nothing(void **state)
{
    (void)state;
    static float prefill[PREFILL * Q_HEADS * DIM];
    float out[Q_HEADS * DIM];
    counting c = {0};
    world w;
    skim_runtime_options runtime = {.size_of = sizeof runtime,
                                    .allocator = {count_allocate, count_release, &c}};
    assert_int_equal(skim_runtime_create(&runtime, &w.runtime), SKIM_OK);
    assert_int_equal(skim_device_open(w.runtime, "cpu", NULL, &w.device), SKIM_OK);
    open_cache(&w);
    assert_int_equal(skim_cache_prepare(w.cache, NULL), SKIM_OK);
    int calls = c.calls;
    record_step(&w, 0, 600, prefill);
    for (uint32_t token = 600; token < TOKENS; token++) {
        record_step(&w, token, 1, out);
        if (token % 7 == 0) // some steps wait, others pile up
            assert_int_equal(skim_queue_finish(w.queue), SKIM_OK);
    }
    assert_int_equal(skim_queue_finish(w.queue), SKIM_OK);
    assert_int_equal(c.calls, calls);
    close_world(&w);
    assert_int_equal(c.alive, 0);
}

static void a_cache_larger_than_memory_is_refused_with_both_figures(void **state)
{
    (void)state;
    world w;
    open_world(&w, NULL);
    skim_layer layer = {
        .size_of = sizeof layer, .q_heads = 32, .kv_heads = 32, .key_dim = 256, .type = SKIM_F32};
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = &layer,
                                  .layer_count = 1,
                                  .capacity = (uint64_t)1 << 30};
    skim_cache *cache = NULL;
    assert_int_equal(skim_cache_create(w.queue, &options, &cache), SKIM_NO_MEMORY);
    assert_null(cache);
    char text[256];
    skim_queue_error(w.queue, text, sizeof text);
    assert_non_null(strstr(text, "bytes and"));
    assert_non_null(strstr(text, "available"));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hosts_pool_computes_the_same_bits),
        cmocka_unit_test(a_pool_needs_threads),
        cmocka_unit_test(submitted_work_is_done_without_a_waiter),
        cmocka_unit_test(points_are_reached_in_order),
        cmocka_unit_test(marks_tell_the_time_once_reached),
        cmocka_unit_test(uploads_are_ordered_with_the_work_around_them),
        cmocka_unit_test(queues_of_one_device_run_from_several_threads),
        cmocka_unit_test(every_allocation_may_fail_and_nothing_leaks),
        cmocka_unit_test(a_decode_step_allocates_nothing),
        cmocka_unit_test(a_cache_larger_than_memory_is_refused_with_both_figures),
    };
    return cmocka_run_group_tests(tests, fill_all, NULL);
}
