// The allocator: what it is asked for, that it may fail or be slow, and what it gets back.
#include "host.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t prompt[RIG_SEQUENCES] = {70, 0, 0, 0};
static const uint32_t decode[RIG_SEQUENCES] = {1, 1, 0, 0};

// The host checks every size, alignment and guard by itself.
static void all_memory_is_the_hosts_and_comes_back_as_it_was_asked_for(void)
{
    host h;
    host_init(&h);
    skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
    rig r;
    rig_data data;
    rig_shape shape = rig_shape_small();
    rig_data_init(&data, &shape, 70, 1);
    CHECK_OK(rig_open(&r, &options, false));
    CHECK_OK(rig_add_cache(&r, shape));
    CHECK_OK(rig_add_sequences(&r, 1));
    CHECK_OK(rig_forward(&r, prompt, &data, NULL));
    skim_cache_usage usage;
    usage.size_of = sizeof usage;
    CHECK_OK(skim_cache_get_usage(r.cache, &usage));
    uint64_t bytes = 0;
    for (const host_block *block = h.blocks; block; block = block->next)
        bytes += block->size;
    CHECK(bytes >= usage.device_bytes); // the CPU's device memory is the host's
    rig_close(&r);
    CHECK(h.allocated > 20);
    rig_data_deinit(&data);
    host_deinit(&h);
}

// --- failing

// Once more after a failure that will not come again; then it must work.
static skim_status again(host *h, skim_status status, size_t sentence)
{
    if (status == SKIM_OK)
        return SKIM_OK;
    CHECK_EQUAL(status, SKIM_NO_MEMORY);
    CHECK(h->failed > 0);
    CHECK_SENTENCE(sentence);
    return status;
}

#define TRY(call, sentence)                                                                        \
    do {                                                                                           \
        skim_status tried = (call);                                                                \
        if (again(h, tried, sentence) != SKIM_OK)                                                  \
            CHECK_OK(call);                                                                        \
    } while (0)

static void run_with_a_failure(host *h, const rig_shape *shape, rig_data *first, rig_data *second)
{
    skim_runtime_options options = host_options(h, SKIM_LOG_NONE);
    rig r;
    memset(&r, 0, sizeof r);
    TRY(skim_runtime_create(&options, &r.runtime), 1); // nowhere to keep a sentence
    TRY(skim_device_open(r.runtime, "cpu", NULL, &r.device),
        skim_runtime_error(r.runtime, NULL, 0));
    TRY(skim_queue_create(r.device, &r.queue), skim_device_error(r.device, NULL, 0));
    TRY(rig_add_cache(&r, *shape), skim_queue_error(r.queue, NULL, 0));
    TRY(rig_add_sequences(&r, 2), skim_cache_error(r.cache, NULL, 0));
    TRY(skim_cache_prepare(r.cache, NULL), skim_cache_error(r.cache, NULL, 0));
    TRY(rig_forward(&r, prompt, first, NULL), skim_cache_error(r.cache, NULL, 0));
    TRY(rig_forward(&r, decode, second, NULL), skim_cache_error(r.cache, NULL, 0));
    CHECK_EQUAL(skim_sequence_length(r.sequences[0]), 71);
    rig_close(&r);
}

static void each_request_can_fail_once_and_the_call_be_repeated(void)
{
    rig_shape shape = rig_shape_small();
    shape.bounds_type = SKIM_BOUNDS_I8;
    rig_data first[2], second[2];
    for (int i = 0; i < 2; i++) {
        rig_data_init(&first[i], &shape, 70, 1);
        rig_data_init(&second[i], &shape, 2, 2);
    }
    uint64_t requests = 1;
    for (uint64_t at = 0; at <= requests; at++) { // 0: none fails
        host h;
        host_init(&h);
        h.fail_from = at;
        h.fail_count = 1;
        rig_forget_results(&first[at > 0]);
        rig_forget_results(&second[at > 0]);
        run_with_a_failure(&h, &shape, &first[at > 0], &second[at > 0]);
        if (at == 0)
            requests = h.allocated;
        else
            CHECK(rig_same_results(&first[0], &first[1]) &&
                  rig_same_results(&second[0], &second[1]));
        host_deinit(&h);
    }
    printf("        %llu requests\n", (unsigned long long)requests);
    for (int i = 0; i < 2; i++) {
        rig_data_deinit(&first[i]);
        rig_data_deinit(&second[i]);
    }
}

static skim_status run_until_it_fails(const skim_runtime_options *options, rig_data *data)
{
    rig r;
    skim_status status = rig_open(&r, options, false);
    if (status == SKIM_OK)
        status = rig_add_cache(&r, rig_shape_small());
    if (status == SKIM_OK)
        status = rig_add_sequences(&r, 1);
    if (status == SKIM_OK)
        status = rig_forward(&r, prompt, data, NULL);
    rig_close(&r);
    return status;
}

static void memory_that_is_gone_for_good_leaves_nothing_behind(void)
{
    rig_shape shape = rig_shape_small();
    rig_data data;
    rig_data_init(&data, &shape, 70, 1);
    uint32_t failures = 0;
    skim_status status = SKIM_NO_MEMORY;
    for (uint64_t at = 1; status != SKIM_OK; at++) {
        host h;
        host_init(&h);
        h.fail_from = at;
        h.fail_count = UINT64_MAX;
        skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
        status = run_until_it_fails(&options, &data);
        CHECK(status == SKIM_OK || status == SKIM_NO_MEMORY);
        failures += status != SKIM_OK;
        host_deinit(&h);
    }
    CHECK(failures > 20);
    rig_data_deinit(&data);
}

// --- slow, from several threads

typedef struct worker {
    host *h;
    skim_device *device;
    pthread_t thread;
    rig_data data;
} worker;

static void *work(void *argument)
{
    worker *w = (worker *)argument;
    for (int round = 0; round < 3; round++) {
        rig r;
        memset(&r, 0, sizeof r);
        CHECK_OK(skim_queue_create(w->device, &r.queue));
        CHECK_OK(rig_add_cache(&r, rig_shape_small()));
        CHECK_OK(rig_add_sequences(&r, 1));
        CHECK_OK(rig_forward(&r, prompt, &w->data, NULL));
        skim_cache_destroy(r.cache);
        skim_queue_destroy(r.queue);
    }
    return NULL;
}

static void a_slow_allocator_is_called_from_several_threads(void)
{
    enum { WORKERS = 3 };
    host h;
    host_init(&h);
    h.delay_us = 200;
    skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
    rig r;
    CHECK_OK(rig_open(&r, &options, false));
    rig_shape shape = rig_shape_small();
    worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i].h = &h;
        workers[i].device = r.device;
        rig_data_init(&workers[i].data, &shape, 70, 1);
        CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 1; i < WORKERS; i++)
        CHECK(rig_same_results(&workers[0].data, &workers[i].data));
    CHECK(h.thread_count >= WORKERS + 1);
    for (int i = 0; i < WORKERS; i++)
        rig_data_deinit(&workers[i].data);
    rig_close(&r);
    host_deinit(&h);
}

// --- calling back

typedef struct objects {
    skim_runtime *runtime;
    skim_device *device;
    uint32_t calls;
} objects;

// What any callback may call.
static void ask(void *user)
{
    objects *known = (objects *)user;
    char text[64];
    skim_device_info info;
    info.size_of = sizeof info;
    skim_limits limits;
    limits.size_of = sizeof limits;
    known->calls++;
    if (known->runtime) {
        skim_runtime_error(known->runtime, text, sizeof text);
        CHECK_OK(skim_runtime_device_info(known->runtime, 0, &info));
    }
    if (known->device) {
        skim_device_error(known->device, text, sizeof text);
        CHECK_OK(skim_device_get_info(known->device, &info));
        CHECK_OK(skim_device_get_limits(known->device, &limits));
    }
}

static void an_allocator_may_ask_the_runtime_and_the_device(void)
{
    host h;
    objects known;
    memset(&known, 0, sizeof known);
    host_init(&h);
    h.call_back = ask;
    h.call_back_user = &known;
    skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
    rig_shape shape = rig_shape_small();
    rig_data data;
    rig_data_init(&data, &shape, 70, 1);
    rig r;
    CHECK_OK(rig_open(&r, &options, false));
    known.runtime = r.runtime;
    known.device = r.device;
    known.calls = 0;
    CHECK_OK(rig_add_cache(&r, shape));
    CHECK_OK(rig_add_sequences(&r, 1));
    CHECK_OK(rig_forward(&r, prompt, &data, NULL));
    skim_cache_destroy(r.cache);
    r.cache = NULL;
    skim_queue_destroy(r.queue);
    r.queue = NULL;
    CHECK(known.calls > 10);
    known.runtime = NULL;
    known.device = NULL;
    rig_close(&r);
    rig_data_deinit(&data);
    host_deinit(&h);
}

// --- zeroed before release

// An upload that waits is kept by the queue; large ones make it change its memory.
static void upload_while_work_waits(rig *r, const rig_data *data)
{
    skim_buffer *buffer = NULL;
    CHECK_OK(skim_buffer_create(r->device, 1 << 20, &buffer));
    CHECK_OK(skim_queue_zero(r->queue, buffer, 0, 64));
    char *large = (char *)malloc(1 << 20);
    CHECK(large != NULL);
    for (size_t i = 0; i < 1 << 20; i++)
        large[i] = data->k[i % data->kv_bytes];
    for (uint64_t size = 1 << 17; size <= 1 << 20; size *= 2)
        CHECK_OK(skim_queue_upload(r->queue, buffer, 0, large, size));
    free(large);
    CHECK_OK(
        skim_queue_zero(r->queue, buffer, 0, 1 << 20)); // buffers are not wiped: their owner is
    CHECK_OK(skim_queue_finish(r->queue));
    skim_buffer_destroy(buffer);
}

// The host fills what it gives with 0xa5 and looks at each byte of what it gets back: it must be
// that, or 0.
static void nothing_that_a_cache_was_told_is_in_memory_that_is_released(void)
{
    const skim_type types[] = {SKIM_F32, SKIM_F16, SKIM_BF16};
    for (size_t i = 0; i < 6; i++) {
        host h;
        host_init(&h);
        skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
        rig_shape shape = rig_shape_small();
        shape.type = types[i % 3];
        shape.io_type = types[(i + 1) % 3];
        shape.bounds_type = i < 3 ? SKIM_BOUNDS_NATIVE : SKIM_BOUNDS_I8;
        rig_data first, second;
        rig_data_init(&first, &shape, 70, 1);
        rig_data_init(&second, &shape, 2, 2);
        rig r;
        CHECK_OK(rig_open(&r, &options, false));
        CHECK_OK(rig_add_cache(&r, shape));
        CHECK_OK(rig_add_sequences(&r, 2));
        CHECK_OK(skim_cache_prepare(r.cache, NULL));
        h.watch = true; // its self-test knows no secrets
        CHECK_OK(rig_forward(&r, prompt, &first, NULL));
        CHECK_OK(rig_forward(&r, decode, &second, NULL));
        CHECK_OK(skim_sequence_truncate(r.sequences[0], 20));
        CHECK_OK(skim_sequence_destroy(r.sequences[1]));
        upload_while_work_waits(&r, &first);
        skim_cache_destroy(r.cache);
        r.cache = NULL;
        skim_queue_destroy(r.queue);
        r.queue = NULL;
        CHECK(!h.watched);
        rig_close(&r);
        rig_data_deinit(&first);
        rig_data_deinit(&second);
        host_deinit(&h);
    }
}

static void the_host_would_see_what_was_left_in_memory(void)
{
    host h;
    host_init(&h);
    skim_runtime_options options = host_options(&h, SKIM_LOG_NONE);
    rig r;
    CHECK_OK(rig_open(&r, &options, false));
    skim_buffer *buffer = NULL;
    CHECK_OK(skim_buffer_create(r.device, 4096, &buffer));
    h.watch = true;
    CHECK_OK(skim_queue_upload(r.queue, buffer, 100, "secret", 6));
    CHECK_OK(skim_queue_finish(r.queue));
    CHECK(!h.watched);
    skim_buffer_destroy(buffer);
    CHECK(h.watched);
    rig_close(&r);
    host_deinit(&h);
}

const check_case allocator_cases[] = {
    {"all memory is the host's and comes back as it was asked for",
     all_memory_is_the_hosts_and_comes_back_as_it_was_asked_for},
    {"each request can fail once and the call be repeated",
     each_request_can_fail_once_and_the_call_be_repeated},
    {"memory that is gone for good leaves nothing behind",
     memory_that_is_gone_for_good_leaves_nothing_behind},
    {"a slow allocator is called from several threads",
     a_slow_allocator_is_called_from_several_threads},
    {"an allocator may ask the runtime and the device",
     an_allocator_may_ask_the_runtime_and_the_device},
    {"nothing that a cache was told is in memory that is released",
     nothing_that_a_cache_was_told_is_in_memory_that_is_released},
    {"the host would see what was left in memory", the_host_would_see_what_was_left_in_memory},
    {NULL, NULL},
};
