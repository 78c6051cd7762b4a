// The host's own Vulkan and Skim, side by side: its device, its queue under its lock, its buffers
// and its timeline semaphores.
#include "conformance.h"
#include "decoder.h"
#include "host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DO(call) assert_int_equal(call, VK_SUCCESS)

enum { MILLISECOND = 1000000 };
static const double TOLERANCE = 1e-4;

static host_app app;
static skim_runtime *runtime;
static decoder_data expected; // the CPU's

static void check_ok(skim_status status, const char *call)
{
    if (status == SKIM_OK)
        return;
    char text[300] = "";
    skim_runtime_error(runtime, text, sizeof text);
    fail_msg("%s: %s: %s", call, skim_status_name(status), text);
}
#define OK(call) check_ok(call, #call)

static skim_device *import(void)
{
    const skim_vulkan_options options = host_options(&app);
    skim_device *device = NULL;
    OK(skim_vulkan_device_open(runtime, &options, &device));
    return device;
}

static void check_decoder(const decoder_data *data)
{
    double difference = decoder_difference(data, &expected);
    if (!(difference <= TOLERANCE))
        fail_msg("results differ by %g from the CPU's", difference);
}

static decoder_data *take_decoder(void)
{
    decoder_data *data = malloc(sizeof *data);
    assert_non_null(data);
    memcpy(data, &expected, sizeof *data);
    memset(data->out, 0xff, sizeof data->out);
    return data;
}

// ---- the device and its queue

static void a_hosts_device_gives_the_results_of_the_cpu(void **state)
{
    (void)state;
    skim_device *device = import();
    skim_device_info info = {.size_of = sizeof info};
    assert_int_equal(skim_device_get_info(device, &info), SKIM_OK);
    assert_string_equal(info.backend, "vulkan");
    // The selector is that of the same device among those found, if it is one of them.
    if (info.selector[0])
        assert_memory_equal(info.selector, "vulkan:", 7);
    decoder_data *data = take_decoder();
    OK(decoder_run(device, data));
    check_decoder(data);
    free(data);
    skim_device_close(device);
    assert_true(atomic_load(&spy.submissions) > 0);
    assert_int_equal(atomic_load(&spy.unlocked_submissions), 0);
    // Device and instance are the host's, and still there.
    assert_int_equal(atomic_load(&spy.destroyed), 0);
    DO(app.DeviceWaitIdle(app.device));
}

// Work of the host's on the same queue, over and over, each time checked.
typedef struct busy_host {
    atomic_bool stop;
    atomic_uint rounds, wrong;
} busy_host;

static void *work_of_the_host(void *argument)
{
    busy_host *busy = argument;
    enum { BYTES = 65536 };
    VkCommandPool pool = host_pool_create(&app);
    host_buffer near = host_buffer_create(&app, BYTES, VK_BUFFER_USAGE_TRANSFER_DST_BIT, true);
    host_buffer far = host_buffer_create(
        &app, BYTES, VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT, false);
    VkSemaphore done = host_timeline_create(&app);
    const VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT,
    };
    for (uint32_t round = 1; !atomic_load(&busy->stop) || round == 1; round++) {
        VkCommandBuffer commands = host_begin(&app, pool);
        app.CmdFillBuffer(commands, far.handle, 0, BYTES, round);
        app.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                               VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
        host_record_copy(&app, commands, far.handle, 0, near.handle, 0, BYTES);
        host_submit(&app, commands, VK_NULL_HANDLE, 0, done, round);
        host_wait(&app, done, round);
        for (uint32_t i = 0; i < BYTES / 4; i++)
            if (((uint32_t *)(void *)near.bytes)[i] != round)
                atomic_fetch_add(&busy->wrong, 1);
        atomic_fetch_add(&busy->rounds, 1);
    }
    app.DestroySemaphore(app.device, done, NULL);
    host_buffer_destroy(&app, &near);
    host_buffer_destroy(&app, &far);
    app.DestroyCommandPool(app.device, pool, NULL);
    return NULL;
}

static void start_host(busy_host *busy, pthread_t *thread)
{
    memset(busy, 0, sizeof *busy);
    assert_int_equal(pthread_create(thread, NULL, work_of_the_host, busy), 0);
}

static void stop_host(busy_host *busy, pthread_t thread)
{
    atomic_store(&busy->stop, true);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&busy->rounds) > 0);
    assert_int_equal(atomic_load(&busy->wrong), 0);
    assert_int_equal(atomic_load(&spy.unlocked_submissions), 0);
}

static void the_host_works_on_the_same_queue_meanwhile(void **state)
{
    (void)state;
    skim_device *device = import();
    busy_host busy;
    pthread_t thread;
    start_host(&busy, &thread);
    decoder_data *data = take_decoder();
    OK(decoder_run(device, data));
    stop_host(&busy, thread);
    check_decoder(data);
    free(data);
    skim_device_close(device);
}

typedef struct device_run {
    skim_device *device;
    decoder_data *data;
    skim_status status;
} device_run;

static void *run_device(void *argument)
{
    device_run *run = argument;
    run->status = decoder_run(run->device, run->data);
    return NULL;
}

static void several_devices_work_at_once(void **state)
{
    (void)state;
    // The host's twice, under the same lock, and one of Skim's own.
    const skim_vulkan_options own = {
        .size_of = sizeof own, .disable = SKIM_FEATURE_WIDE, .selector = "vulkan:0"};
    device_run runs[3] = {{.device = import()}, {.device = import()}, {.device = NULL}};
    OK(skim_vulkan_device_open(runtime, &own, &runs[2].device));
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        runs[i].data = take_decoder();
        assert_int_equal(pthread_create(&threads[i], NULL, run_device, &runs[i]), 0);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(runs[i].status, SKIM_OK);
        check_decoder(runs[i].data);
        free(runs[i].data);
        skim_device_close(runs[i].device);
    }
    assert_int_equal(atomic_load(&spy.unlocked_submissions), 0);
    assert_int_equal(atomic_load(&spy.destroyed), 0);
}

static void a_host_without_a_lock_or_a_function_does_as_well(void **state)
{
    (void)state;
    skim_vulkan_options options = host_options(&app);
    options.get_instance_proc_addr = NULL; // the system's loader, which the host uses too
    options.lock = (skim_vulkan_lock){0};
    skim_device *device = NULL;
    OK(skim_vulkan_device_open(runtime, &options, &device));
    decoder_data *data = take_decoder();
    OK(decoder_run(device, data));
    check_decoder(data);
    free(data);
    skim_device_close(device);
    assert_int_equal(atomic_load(&spy.submissions), 0); // nobody looked
    DO(app.DeviceWaitIdle(app.device));
}

static void features_that_were_not_enabled_are_not_used(void **state)
{
    (void)state;
    const uint64_t of_subgroups =
        SKIM_VULKAN_FEATURE_SUBGROUP_SIZE | SKIM_VULKAN_FEATURE_FULL_SUBGROUPS;
    uint64_t used[3] = {0, 0, 0};
    assert_int_equal(app.features & (SKIM_VULKAN_FEATURE_FLOAT16 | of_subgroups), 0);
    host_app rich;
    char reason[100];
    assert_true(host_open(&rich, VK_API_VERSION_1_2, true, reason, sizeof reason));
    // Without them, with them, and with half of what subgroups need.
    for (int i = 0; i < 3; i++) {
        host_spy_reset(i ? &rich : &app);
        skim_vulkan_options options = host_options(i ? &rich : &app);
        if (i == 2)
            options.features &= ~SKIM_VULKAN_FEATURE_FULL_SUBGROUPS;
        skim_device *device = NULL;
        OK(skim_vulkan_device_open(runtime, &options, &device));
        skim_limits limits = {.size_of = sizeof limits};
        assert_int_equal(skim_device_get_limits(device, &limits), SKIM_OK);
        used[i] = limits.features & (SKIM_FEATURE_FP16 | SKIM_FEATURE_SUBGROUPS);
        decoder_data *data = take_decoder();
        OK(decoder_run(device, data));
        check_decoder(data);
        free(data);
        skim_device_close(device);
    }
    const uint64_t fp16 = rich.features & SKIM_VULKAN_FEATURE_FLOAT16 ? SKIM_FEATURE_FP16 : 0;
    const uint64_t subgroups =
        (rich.features & of_subgroups) == of_subgroups ? SKIM_FEATURE_SUBGROUPS : 0;
    assert_int_equal(used[0], 0);
    assert_int_equal(used[1], fp16 | subgroups);
    assert_int_equal(used[2], fp16);
    host_spy_reset(&app);
    host_close(&rich);
}

// ---- buffers

static VkBufferUsageFlags wanted_usage(void)
{
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    return needs.buffer_usage;
}

// Everything that the model reads and writes is in a buffer of the host's. The host copies inputs
// there and results back, on the device, and both sides wait for each other by semaphores only.
static void a_hosts_buffer_holds_inputs_and_results(void **state)
{
    (void)state;
    skim_device *device = import();
    host_buffer shared = host_buffer_create(&app, sizeof(decoder_data), wanted_usage(), false);
    host_buffer near = host_buffer_create(
        &app, sizeof(decoder_data),
        VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT, true);
    VkSemaphore timeline = host_timeline_create(&app);
    spy.guarded = shared.handle;
    skim_buffer *wrapped = NULL;
    OK(skim_vulkan_buffer_wrap(device, (uint64_t)shared.handle, sizeof(decoder_data), &wrapped));
    assert_int_equal(skim_buffer_size(wrapped), sizeof(decoder_data));
    assert_null(skim_buffer_host(wrapped));
    decoder_session session;
    OK(decoder_open(device, &session));

    decoder_data *data = take_decoder();
    memcpy(near.bytes, data, sizeof *data);
    VkCommandBuffer commands = host_begin(&app, app.pool);
    host_record_copy(&app, commands, near.handle, 0, shared.handle, 0, sizeof *data);
    host_submit(&app, commands, VK_NULL_HANDLE, 0, timeline, 1);
    OK(skim_vulkan_queue_wait_semaphore(session.queue, (uint64_t)timeline, 1));
    OK(decoder_record(&session, data, wrapped));
    OK(skim_vulkan_queue_signal_semaphore(session.queue, (uint64_t)timeline, 2));
    OK(skim_queue_submit(session.queue, NULL));
    commands = host_begin(&app, app.pool);
    host_record_copy(&app, commands, shared.handle, 0, near.handle, 0, sizeof *data);
    host_submit(&app, commands, timeline, 2, timeline, 3);
    host_wait(&app, timeline, 3);
    memcpy(data, near.bytes, sizeof *data);
    check_decoder(data);

    decoder_close(&session);
    skim_buffer_destroy(wrapped);
    assert_int_equal(atomic_load(&spy.destroyed), 0);
    // It is the host's still, and what it held is there.
    commands = host_begin(&app, app.pool);
    host_record_copy(&app, commands, shared.handle, 0, near.handle, 0, sizeof *data);
    host_submit(&app, commands, VK_NULL_HANDLE, 0, timeline, 4);
    host_wait(&app, timeline, 4);
    assert_memory_equal(near.bytes, data, sizeof *data);
    free(data);
    skim_device_close(device);
    app.DestroySemaphore(app.device, timeline, NULL);
    host_buffer_destroy(&app, &shared);
    host_buffer_destroy(&app, &near);
}

enum { POOL_SLOTS = 64, POOL_PAGE = 16, POOL_PAGES = 40 };
enum { POOL_FLOATS = POOL_SLOTS * POOL_PAGE * DECODER_KV_HEADS * DECODER_DIM };

static skim_paged pool_in(skim_buffer *buffer)
{
    return (skim_paged){.buffer = buffer,
                        .page_stride = POOL_PAGE * DECODER_KV_HEADS * DECODER_DIM,
                        .head_stride = POOL_PAGE * DECODER_DIM,
                        .token_stride = DECODER_DIM};
}

// Appends a prompt to pages of the caller's and attends with its last token.
static void attend_in_pages(skim_device *device, skim_buffer *keys, skim_buffer *values,
                            skim_tensor bounds_at, decoder_data *data)
{
    skim_queue *queue = NULL;
    OK(skim_queue_create(device, &queue));
    const skim_shape shape = {.size_of = sizeof shape,
                              .q_heads = DECODER_Q_HEADS,
                              .kv_heads = DECODER_KV_HEADS,
                              .key_dim = DECODER_DIM,
                              .page_size = POOL_PAGE,
                              .type = SKIM_F32,
                              .slots = POOL_SLOTS,
                              .max_rows = 1,
                              .max_tokens = DECODER_PROMPT,
                              .max_pages = POOL_PAGES};
    OK(skim_queue_prepare(queue, &shape));
    uint32_t table[POOL_PAGES]; // slots in all of the pool
    for (uint32_t i = 0; i < POOL_PAGES; i++)
        table[i] = (i * 37 + 63) % POOL_SLOTS;
    skim_row row = {.length = DECODER_PROMPT,
                    .query_count = DECODER_PROMPT,
                    .page_count = (DECODER_PROMPT + POOL_PAGE - 1) / POOL_PAGE,
                    .flags = SKIM_ROW_DENSE};
    const skim_append_args append = {.size_of = sizeof append,
                                     .shape = &shape,
                                     .rows = skim_tensor_host(&row, SKIM_U32),
                                     .row_count = 1,
                                     .token_count = DECODER_PROMPT,
                                     .table = skim_tensor_host(table, SKIM_U32),
                                     .table_count = POOL_PAGES,
                                     .k = skim_tensor_host(data->k, SKIM_F32),
                                     .v = skim_tensor_host(data->v, SKIM_F32),
                                     .keys = pool_in(keys),
                                     .values = pool_in(values),
                                     .bounds = bounds_at.buffer,
                                     .bounds_offset = bounds_at.offset};
    OK(skim_append(queue, &append));
    skim_row last = row;
    last.query_count = 1;
    const skim_attend_args attend = {.size_of = sizeof attend,
                                     .shape = &shape,
                                     .rows = skim_tensor_host(&last, SKIM_U32),
                                     .row_count = 1,
                                     .token_count = 1,
                                     .table = skim_tensor_host(table, SKIM_U32),
                                     .table_count = POOL_PAGES,
                                     .q = skim_tensor_host(data->q, SKIM_F32),
                                     .keys = pool_in(keys),
                                     .values = pool_in(values),
                                     .out = skim_tensor_host(data->out, SKIM_F32)};
    OK(skim_attend(queue, &attend));
    OK(skim_queue_finish(queue));
    skim_queue_destroy(queue);
}

// Keys in a buffer of the host's, in one piece larger than Skim's own pieces; values in several.
static void wrapped_and_split_buffers_go_together(void **state)
{
    (void)state;
    skim_device *cpu = NULL, *device = NULL;
    OK(skim_device_open(runtime, "cpu", NULL, &cpu));
    skim_vulkan_options options = host_options(&app);
    options.allocation_max = 65536;
    OK(skim_vulkan_device_open(runtime, &options, &device));
    host_buffer shared = host_buffer_create(&app, POOL_FLOATS * 4, wanted_usage(), false);
    decoder_data *results[2] = {take_decoder(), take_decoder()};
    for (int i = 0; i < 2; i++) {
        skim_device *on = i ? device : cpu;
        skim_buffer *keys = NULL, *values = NULL, *bounds = NULL;
        if (i)
            OK(skim_vulkan_buffer_wrap(on, (uint64_t)shared.handle, shared.size, &keys));
        else
            OK(skim_buffer_create(on, POOL_FLOATS * 4, &keys));
        OK(skim_buffer_create(on, POOL_FLOATS * 4, &values));
        OK(skim_buffer_create(on, POOL_FLOATS * 4, &bounds));
        attend_in_pages(on, keys, values, skim_tensor_buffer(bounds, 64, SKIM_F32), results[i]);
        skim_buffer_destroy(keys);
        skim_buffer_destroy(values);
        skim_buffer_destroy(bounds);
    }
    for (int i = 0; i < DECODER_Q_HEADS * DECODER_DIM; i++)
        assert_float_equal((&results[1]->out[0][0][0][0])[i], (&results[0]->out[0][0][0][0])[i],
                           1e-5);
    free(results[0]);
    free(results[1]);
    skim_device_close(device);
    skim_device_close(cpu);
    host_buffer_destroy(&app, &shared);
}

// Two buffers of Skim's, one VkBuffer: what goes through both stays in order. (That it would not
// shows under the validation layer.)
static void a_buffer_that_is_wrapped_twice_is_one(void **state)
{
    (void)state;
    skim_device *device = import();
    skim_queue *queue = NULL;
    OK(skim_queue_create(device, &queue));
    host_buffer shared = host_buffer_create(&app, 4096, wanted_usage(), false);
    skim_buffer *wrapped[2] = {NULL, NULL};
    unsigned char bytes[4096], seen[4096];
    for (int i = 0; i < 2; i++)
        OK(skim_vulkan_buffer_wrap(device, (uint64_t)shared.handle, 4096, &wrapped[i]));
    for (int i = 0; i < 4; i++) {
        memset(bytes, 1 + i, sizeof bytes);
        memset(seen, 0, sizeof seen);
        OK(skim_queue_upload(queue, wrapped[i % 2], 0, bytes, sizeof bytes));
        OK(skim_queue_zero(queue, wrapped[1 - i % 2], 1024, 512));
        OK(skim_queue_copy(queue, wrapped[i % 2], 1280, wrapped[1 - i % 2], 2048, 512));
        OK(skim_queue_download(queue, wrapped[i / 2], 0, seen, sizeof seen));
        OK(skim_queue_finish(queue));
        memset(bytes + 1024, 0, 512);
        memcpy(bytes + 2048, bytes + 1280, 512);
        assert_memory_equal(seen, bytes, sizeof bytes);
    }
    for (int i = 0; i < 2; i++)
        skim_buffer_destroy(wrapped[i]);
    skim_queue_destroy(queue);
    skim_device_close(device);
    host_buffer_destroy(&app, &shared);
}

// ---- semaphores

// The host fills the buffer only after Skim's work was submitted: Skim must not have looked before.
static void work_waits_for_the_hosts_semaphore(void **state)
{
    (void)state;
    skim_device *device = import();
    skim_queue *queue = NULL;
    OK(skim_queue_create(device, &queue));
    host_buffer shared = host_buffer_create(&app, 4096, wanted_usage(), true);
    VkSemaphore timeline = host_timeline_create(&app);
    skim_buffer *wrapped = NULL;
    OK(skim_vulkan_buffer_wrap(device, (uint64_t)shared.handle, shared.size, &wrapped));
    memset(shared.bytes, 1, shared.size);
    for (unsigned char round = 1; round <= 3; round++) {
        unsigned char seen[4096] = {0};
        uint64_t point = 0;
        OK(skim_vulkan_queue_wait_semaphore(queue, (uint64_t)timeline, round));
        OK(skim_queue_download(queue, wrapped, 0, seen, sizeof seen));
        OK(skim_queue_submit(queue, &point));
        assert_int_equal(skim_queue_wait(queue, point, 100 * MILLISECOND), SKIM_TIMEOUT);
        memset(shared.bytes, 10 + round, shared.size);
        const VkSemaphoreSignalInfo signal = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
                                              .semaphore = timeline,
                                              .value = round};
        DO(app.SignalSemaphore(app.device, &signal));
        OK(skim_queue_wait(queue, point, SKIM_WAIT_FOREVER));
        for (size_t i = 0; i < sizeof seen; i++)
            assert_int_equal(seen[i], 10 + round);
    }
    // The wait was for that submission alone.
    unsigned char seen = 0;
    OK(skim_queue_download(queue, wrapped, 0, &seen, 1));
    OK(skim_queue_finish(queue));
    assert_int_equal(seen, 13);
    skim_buffer_destroy(wrapped);
    skim_queue_destroy(queue);
    skim_device_close(device);
    app.DestroySemaphore(app.device, timeline, NULL);
    host_buffer_destroy(&app, &shared);
}

static uint64_t value_of(VkSemaphore semaphore)
{
    uint64_t value = 0;
    DO(app.GetSemaphoreCounterValue(app.device, semaphore, &value));
    return value;
}

static void a_signal_comes_with_its_submission(void **state)
{
    (void)state;
    skim_device *device = import();
    skim_queue *queue = NULL;
    OK(skim_queue_create(device, &queue));
    VkSemaphore timeline = host_timeline_create(&app);
    uint64_t first = 0, second = 0;
    // Nothing else is recorded; of two values the larger counts.
    OK(skim_vulkan_queue_signal_semaphore(queue, (uint64_t)timeline, 7));
    OK(skim_vulkan_queue_signal_semaphore(queue, (uint64_t)timeline, 5));
    assert_int_equal(value_of(timeline), 0);
    OK(skim_queue_submit(queue, &first));
    OK(skim_queue_wait(queue, first, SKIM_WAIT_FOREVER));
    assert_int_equal(value_of(timeline), 7);
    // A wait for what has been is no wait, and gives a point as well.
    OK(skim_vulkan_queue_wait_semaphore(queue, (uint64_t)timeline, 3));
    OK(skim_queue_submit(queue, &second));
    assert_int_equal(second, first + 1);
    OK(skim_queue_wait(queue, second, SKIM_WAIT_FOREVER));
    // What is dropped signals nothing.
    OK(skim_vulkan_queue_signal_semaphore(queue, (uint64_t)timeline, 9));
    skim_queue_destroy(queue);
    assert_int_equal(value_of(timeline), 7);
    skim_device_close(device);
    app.DestroySemaphore(app.device, timeline, NULL);
}

// ---- the suite's cases

static skim_status open_imported(void *user, skim_runtime *of, skim_device **device)
{
    (void)user;
    const skim_vulkan_options options = host_options(&app);
    return skim_vulkan_device_open(of, &options, device);
}

static void report(void *user, const conformance_result *result)
{
    (void)user;
    if (result->outcome == CONFORMANCE_FAILED)
        fprintf(stderr, "%s: %s\n", result->name, result->detail);
}

static void cases_of_the_suite_pass_beside_the_hosts_work(void **state)
{
    (void)state;
    busy_host busy;
    pthread_t thread;
    start_host(&busy, &thread);
    const conformance_options options = {
        .quick = true, .every = 97, .open = open_imported, .report = report};
    conformance_totals totals;
    char error[300];
    conformance_status status = conformance_run(&options, &totals, error, sizeof error);
    stop_host(&busy, thread);
    if (status != CONFORMANCE_OK)
        fail_msg("%u failed: %s", totals.failed, error);
    assert_true(totals.passed > 3);
}

// ---- bad input

static void refused_by_runtime(skim_vulkan_options options, skim_status status, const char *words)
{
    skim_device *device = NULL;
    char text[400] = "";
    assert_int_equal(skim_vulkan_device_open(runtime, &options, &device), status);
    assert_null(device);
    skim_runtime_error(runtime, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
    assert_int_equal(atomic_load(&spy.destroyed), 0);
}

static void handles_come_together(void **state)
{
    (void)state;
    const skim_vulkan_options good = host_options(&app);
    skim_device *device = NULL;
    assert_int_equal(skim_vulkan_device_open(NULL, &good, &device), SKIM_INVALID);
    assert_int_equal(skim_vulkan_device_open(runtime, &good, NULL), SKIM_INVALID);
    skim_vulkan_options bad = good;
    bad.size_of = 8;
    refused_by_runtime(bad, SKIM_INVALID, "size_of");
    bad = good, bad.instance = NULL;
    refused_by_runtime(bad, SKIM_INVALID, "instance is NULL");
    bad = good, bad.physical_device = NULL;
    refused_by_runtime(bad, SKIM_INVALID, "physical_device is NULL");
    bad = good, bad.device = NULL;
    refused_by_runtime(bad, SKIM_INVALID, "device is NULL");
    bad = good, bad.queue = NULL;
    refused_by_runtime(bad, SKIM_INVALID, "queue is NULL");
    bad = good, bad.selector = "vulkan";
    refused_by_runtime(bad, SKIM_INVALID, "selector");
    bad = good, bad.lock.unlock = NULL;
    refused_by_runtime(bad, SKIM_INVALID, "unlock");
    bad = good, bad.allocation_max = 65535;
    refused_by_runtime(bad, SKIM_INVALID, "65535");
    bad = good, bad.queue_family = 1000;
    refused_by_runtime(bad, SKIM_UNSUPPORTED, "queue_family 1000");
    bad = good, bad.physical_device = (struct VkPhysicalDevice_T *)(void *)&app;
    refused_by_runtime(bad, SKIM_INVALID, "not of the instance");
    const skim_vulkan_options no_device = {.size_of = sizeof no_device, .selector = "cpu"};
    refused_by_runtime(no_device, SKIM_INVALID, "\"cpu\"");
    const skim_vulkan_options no_such = {.size_of = sizeof no_such, .selector = "vulkan:77"};
    refused_by_runtime(no_such, SKIM_NO_DEVICE, "vulkan:77");
    const skim_vulkan_options no_uuid = {.size_of = sizeof no_uuid,
                                         .selector = "00000000-0000-0000-0000-0000000000ff"};
    refused_by_runtime(no_uuid, SKIM_NO_DEVICE, "no vulkan device has this UUID");
}

static void what_a_device_lacks_is_named(void **state)
{
    (void)state;
    const skim_vulkan_options good = host_options(&app);
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    for (uint32_t i = 0; i < needs.item_count; i++) {
        skim_vulkan_requirement item = {.size_of = sizeof item};
        assert_int_equal(skim_vulkan_requirement_info(i, &item), SKIM_OK);
        if (!item.required)
            continue;
        skim_vulkan_options bad = good;
        bad.features &= ~item.feature;
        refused_by_runtime(bad, SKIM_UNSUPPORTED, item.name);
        // The physical device itself has not got what the host says it enabled.
        host_spy_reset(&app);
        spy.missing_feature = item.name;
        refused_by_runtime(good, SKIM_UNSUPPORTED, "the host's device cannot be used");
    }
    host_spy_reset(&app);
    spy.version = VK_API_VERSION_1_1;
    refused_by_runtime(good, SKIM_UNSUPPORTED, "older than 1.2");
    host_spy_reset(&app);
    spy.missing_function = "vkWaitSemaphores"; // of 1.2, with an instance made for 1.1
    refused_by_runtime(good, SKIM_UNSUPPORTED, "vkWaitSemaphores");
    host_spy_reset(&app);
    spy.missing_function = "vkGetPhysicalDeviceFeatures2"; // of 1.1
    refused_by_runtime(good, SKIM_UNSUPPORTED, "vkGetPhysicalDeviceFeatures2");
    host_spy_reset(&app);
    // And with nothing missing it opens.
    skim_device_close(import());
}

static void refused_by_device(skim_device *device, uint64_t handle, uint64_t size,
                              skim_status status, const char *words)
{
    skim_buffer *buffer = NULL;
    char text[400] = "";
    assert_int_equal(skim_vulkan_buffer_wrap(device, handle, size, &buffer), status);
    assert_null(buffer);
    skim_device_error(device, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
}

static void buffers_that_cannot_be_wrapped_are_refused(void **state)
{
    (void)state;
    skim_device *device = import(), *other = import(), *cpu = NULL;
    OK(skim_device_open(runtime, "cpu", NULL, &cpu));
    host_buffer shared = host_buffer_create(&app, 4096, wanted_usage(), false);
    const uint64_t handle = (uint64_t)shared.handle;
    skim_buffer *buffer = NULL;
    assert_int_equal(skim_vulkan_buffer_wrap(NULL, handle, 4096, &buffer), SKIM_INVALID);
    assert_int_equal(skim_vulkan_buffer_wrap(device, handle, 4096, NULL), SKIM_INVALID);
    refused_by_device(device, 0, 4096, SKIM_INVALID, "handle");
    refused_by_device(device, handle, 0, SKIM_INVALID, "size above 0");
    refused_by_device(device, handle, 1 << 20, SKIM_INVALID, "has 4096 bytes, not 1048576");
    refused_by_device(device, handle, ((uint64_t)1 << 35) + 1, SKIM_UNSUPPORTED, "34359738369");
    refused_by_device(cpu, handle, 4096, SKIM_UNSUPPORTED, "not a Vulkan device");
    // A buffer of one device is none of another's, though both are the same VkDevice.
    skim_queue *queue = NULL;
    char byte, text[300] = "";
    OK(skim_queue_create(other, &queue));
    OK(skim_vulkan_buffer_wrap(device, handle, 4096, &buffer));
    assert_int_equal(skim_queue_download(queue, buffer, 0, &byte, 1), SKIM_INVALID);
    skim_queue_error(queue, text, sizeof text);
    assert_non_null(strstr(text, "another device"));
    assert_int_equal(skim_queue_download(queue, NULL, 0, &byte, 1), SKIM_INVALID);
    skim_queue_destroy(queue);
    OK(skim_queue_create(device, &queue));
    assert_int_equal(skim_queue_download(queue, buffer, 4096, &byte, 1), SKIM_INVALID);
    skim_queue_destroy(queue);
    skim_buffer_destroy(buffer);
    skim_device_close(cpu);
    skim_device_close(other);
    skim_device_close(device);
    host_buffer_destroy(&app, &shared);
}

static void refused_by_queue(skim_queue *queue, skim_status status, skim_status wanted,
                             const char *words)
{
    char text[400] = "";
    assert_int_equal(status, wanted);
    skim_queue_error(queue, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
}

static void semaphores_that_cannot_be_used_are_refused(void **state)
{
    (void)state;
    enum { SEMAPHORES = 17 };
    skim_device *device = import(), *cpu = NULL;
    skim_queue *queue = NULL, *cpu_queue = NULL;
    OK(skim_device_open(runtime, "cpu", NULL, &cpu));
    OK(skim_queue_create(device, &queue));
    OK(skim_queue_create(cpu, &cpu_queue));
    VkSemaphore timelines[SEMAPHORES];
    for (int i = 0; i < SEMAPHORES; i++)
        timelines[i] = host_timeline_create(&app);
    const uint64_t first = (uint64_t)timelines[0];
    assert_int_equal(skim_vulkan_queue_wait_semaphore(NULL, first, 1), SKIM_INVALID);
    assert_int_equal(skim_vulkan_queue_signal_semaphore(NULL, first, 1), SKIM_INVALID);
    refused_by_queue(queue, skim_vulkan_queue_wait_semaphore(queue, 0, 1), SKIM_INVALID, "0");
    refused_by_queue(queue, skim_vulkan_queue_signal_semaphore(queue, first, 0), SKIM_INVALID,
                     "cannot be signalled with 0");
    refused_by_queue(cpu_queue, skim_vulkan_queue_wait_semaphore(cpu_queue, first, 1),
                     SKIM_UNSUPPORTED, "not a Vulkan device");
    refused_by_queue(cpu_queue, skim_vulkan_queue_signal_semaphore(cpu_queue, first, 1),
                     SKIM_UNSUPPORTED, "not a Vulkan device");
    // Each time sixteen others, so that none of an earlier submission may be left.
    for (uint64_t round = 0; round < 3; round++) {
        const uint64_t none = (uint64_t)timelines[round], value = round + 1;
        for (int i = 0; i < SEMAPHORES; i++)
            if (timelines[i] != timelines[round])
                OK(skim_vulkan_queue_signal_semaphore(queue, (uint64_t)timelines[i], value));
        refused_by_queue(queue, skim_vulkan_queue_signal_semaphore(queue, none, value), SKIM_STATE,
                         "submit first");
        OK(skim_queue_finish(queue));
        for (int i = 0; i < SEMAPHORES; i++)
            assert_int_equal(value_of(timelines[i]),
                             timelines[i] != timelines[round] ? value : round);
        for (int i = 0; i < SEMAPHORES; i++)
            if (timelines[i] != timelines[round])
                OK(skim_vulkan_queue_wait_semaphore(queue, (uint64_t)timelines[i], value));
        refused_by_queue(queue, skim_vulkan_queue_wait_semaphore(queue, none, 0), SKIM_STATE,
                         "submit first");
        OK(skim_queue_finish(queue));
    }
    refused_by_queue(queue, skim_vulkan_queue_signal_semaphore(queue, first, 3), SKIM_INVALID,
                     "is at 3");
    skim_queue_destroy(queue);
    skim_queue_destroy(cpu_queue);
    skim_device_close(device);
    skim_device_close(cpu);
    for (int i = 0; i < SEMAPHORES; i++)
        app.DestroySemaphore(app.device, timelines[i], NULL);
}

// ----

static int reset(void **state)
{
    (void)state;
    host_spy_reset(&app);
    return 0;
}

static bool is_required(void)
{
    const char *required = getenv("SKIM_REQUIRE");
    return required && strstr(required, "vulkan");
}

// vulkan_interop [PATTERN]: only the tests whose names match.
int main(int count, char **values)
{
    char reason[200];
    if (count > 1)
        cmocka_set_test_filter(values[1]);
    if (!host_open(&app, VK_API_VERSION_1_2, false, reason, sizeof reason)) {
        printf("%s: %s\n", is_required() ? "FAILED" : "SKIPPED", reason);
        return is_required() ? 1 : 77;
    }
    host_spy_reset(&app);
    if (skim_runtime_create(NULL, &runtime) != SKIM_OK)
        return 1;
    decoder_fill(&expected, 1);
    decoder_run_cpu(&expected);
#define TEST(name) cmocka_unit_test_setup(name, reset)
    const struct CMUnitTest tests[] = {
        TEST(a_hosts_device_gives_the_results_of_the_cpu),
        TEST(the_host_works_on_the_same_queue_meanwhile),
        TEST(several_devices_work_at_once),
        TEST(a_host_without_a_lock_or_a_function_does_as_well),
        TEST(features_that_were_not_enabled_are_not_used),
        TEST(a_hosts_buffer_holds_inputs_and_results),
        TEST(wrapped_and_split_buffers_go_together),
        TEST(a_buffer_that_is_wrapped_twice_is_one),
        TEST(work_waits_for_the_hosts_semaphore),
        TEST(a_signal_comes_with_its_submission),
        TEST(cases_of_the_suite_pass_beside_the_hosts_work),
        TEST(handles_come_together),
        TEST(what_a_device_lacks_is_named),
        TEST(buffers_that_cannot_be_wrapped_are_refused),
        TEST(semaphores_that_cannot_be_used_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    skim_runtime_destroy(runtime);
    host_close(&app);
    return failed;
}
