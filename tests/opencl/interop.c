// The host's own OpenCL beside Skim's: its context, its queues, in order and not, its buffers and
// events.
#include "backends/opencl/loader.h"
#include "conformance.h"
#include "skim/opencl.h"
#include "skim/skim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 100000, SIZE = BYTES + 3 };

// What an application has before Skim comes.
typedef struct host {
    void *library;
    skim_opencl_functions cl;
    cl_platform_id platform;
    cl_device_id device;
    cl_context context;
    cl_command_queue ordered, unordered, profiled;
    skim_runtime *runtime;
} host;

static cl_command_queue queue_of(const host *h, cl_bitfield properties)
{
    cl_int result = 1;
    cl_command_queue queue = h->cl.CreateCommandQueue(h->context, h->device, properties, &result);
    assert_int_equal(result, CL_SUCCESS);
    return queue;
}

static int setup(void **state)
{
    static host h;
    char reason[200] = "";
    cl_int result = 1;
    cl_uint count = 0;
    if (!skim_opencl_library_open(&h.library, &h.cl, reason, sizeof reason) ||
        h.cl.GetPlatformIDs(1, &h.platform, &count) != CL_SUCCESS || count == 0 ||
        h.cl.GetDeviceIDs(h.platform, CL_DEVICE_TYPE_ALL, 1, &h.device, &count) != CL_SUCCESS) {
        const char *required = getenv("SKIM_REQUIRE");
        printf("no OpenCL: %s\n", reason);
        exit(required && strstr(required, "opencl") ? 1 : 77);
    }
    h.context = h.cl.CreateContext(NULL, 1, &h.device, NULL, NULL, &result);
    assert_int_equal(result, CL_SUCCESS);
    h.ordered = queue_of(&h, 0);
    h.unordered = queue_of(&h, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
    h.profiled = queue_of(&h, CL_QUEUE_PROFILING_ENABLE);
    assert_int_equal(skim_runtime_create(NULL, &h.runtime), SKIM_OK);
    *state = &h;
    return 0;
}

// Whatever Skim retained it released: the host's objects go when the host lets go.
static int teardown(void **state)
{
    host *h = *state;
    skim_runtime_destroy(h->runtime);
    h->cl.ReleaseCommandQueue(h->ordered);
    h->cl.ReleaseCommandQueue(h->unordered);
    h->cl.ReleaseCommandQueue(h->profiled);
    h->cl.ReleaseContext(h->context);
    skim_opencl_library_close(h->library);
    return 0;
}

static skim_opencl_options options_of(const host *h, cl_command_queue queue)
{
    return (skim_opencl_options){.size_of = sizeof(skim_opencl_options),
                                 .context = h->context,
                                 .device = h->device,
                                 .queue = queue};
}

typedef struct opening {
    skim_opencl_options options;
} opening;

static skim_status open_imported(void *user, skim_runtime *runtime, skim_device **device)
{
    const opening *own = user;
    return skim_opencl_device_open(runtime, &own->options, device);
}

static void print_failure(void *user, const conformance_result *result)
{
    (void)user;
    if (result->outcome == CONFORMANCE_FAILED)
        printf("%s: %s\n", result->name, result->detail);
}

static void cases_pass_in_the_hosts_context(void **state)
{
    const host *h = *state;
    const cl_command_queue queues[] = {NULL, h->ordered, h->unordered, h->profiled};
    for (size_t i = 0; i < sizeof queues / sizeof *queues; i++) {
        opening own = {.options = options_of(h, queues[i])};
        own.options.disable = SKIM_FEATURE_WIDE;
        const conformance_options options = {.device = "opencl",
                                             .quick = true,
                                             .every = 60,
                                             .open = open_imported,
                                             .user = &own,
                                             .report = print_failure};
        conformance_totals totals;
        char error[300] = "";
        assert_int_equal(conformance_run(&options, &totals, error, sizeof error), CONFORMANCE_OK);
        assert_true(totals.passed > 5);
    }
}

static uint32_t count_of(const host *h, cl_context context)
{
    enum { REFERENCE_COUNT = 0x1080 };
    cl_uint count = 0;
    assert_int_equal(h->cl.GetContextInfo(context, REFERENCE_COUNT, sizeof count, &count, NULL),
                     CL_SUCCESS);
    return count;
}

static void limits_are_those_of_the_queue(void **state)
{
    const host *h = *state;
    const cl_command_queue queues[] = {NULL, h->ordered, h->profiled};
    const bool marks[] = {true, false, true};
    const uint32_t before = count_of(h, h->context);
    for (size_t i = 0; i < 3; i++) {
        const skim_opencl_options options = options_of(h, queues[i]);
        skim_device *device = NULL;
        assert_int_equal(skim_opencl_device_open(h->runtime, &options, &device), SKIM_OK);
        skim_limits limits = {.size_of = sizeof limits};
        skim_device_get_limits(device, &limits);
        assert_int_equal(limits.timestamps > 0, marks[i]);
        skim_device_close(device);
    }
    assert_int_equal(count_of(h, h->context), before);
}

static void refused(const host *h, skim_opencl_options options, skim_status status,
                    const char *words)
{
    skim_device *device = NULL;
    char text[300] = "";
    assert_int_equal(skim_opencl_device_open(h->runtime, &options, &device), status);
    assert_null(device);
    skim_runtime_error(h->runtime, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
}

static void what_does_not_belong_together_is_refused(void **state)
{
    const host *h = *state;
    cl_int result = 1;
    cl_context other = h->cl.CreateContext(NULL, 1, &h->device, NULL, NULL, &result);
    assert_int_equal(result, CL_SUCCESS);
    skim_opencl_options options = options_of(h, h->ordered);
    options.context = other;
    refused(h, options, SKIM_INVALID, "not of its context");
    options = options_of(h, NULL), options.device = (void *)h->platform;
    refused(h, options, SKIM_INVALID, "not one of the host's context");
    cl_mem memory = h->cl.CreateBuffer(other, CL_MEM_READ_WRITE, 64, NULL, &result);
    assert_int_equal(result, CL_SUCCESS);
    skim_device *device = NULL;
    skim_buffer *buffer = NULL;
    options = options_of(h, NULL);
    assert_int_equal(skim_opencl_device_open(h->runtime, &options, &device), SKIM_OK);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 64, &buffer), SKIM_INVALID);
    h->cl.ReleaseMemObject(memory);
    memory = h->cl.CreateBuffer(h->context, CL_MEM_READ_WRITE, 64, NULL, &result);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 65, &buffer), SKIM_INVALID);
    assert_null(buffer);
    h->cl.ReleaseMemObject(memory);
    skim_device_close(device);
    h->cl.ReleaseContext(other);
}

// The host writes on a queue of its own, Skim copies between two buffers of the host's, and the
// host reads on its own queue again: ordered by events alone.
static void bytes_travel_by_events(void **state)
{
    const host *h = *state;
    static unsigned char sent[SIZE], found[SIZE];
    const skim_opencl_options options = options_of(h, NULL);
    skim_device *device = NULL;
    skim_queue *queue = NULL;
    skim_buffer *from = NULL, *to = NULL;
    cl_int result = 1;
    for (int i = 0; i < SIZE; i++)
        sent[i] = (unsigned char)(i * 7 + (i >> 8));
    assert_int_equal(skim_opencl_device_open(h->runtime, &options, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    cl_mem one = h->cl.CreateBuffer(h->context, CL_MEM_READ_WRITE, SIZE, NULL, &result);
    cl_mem other = h->cl.CreateBuffer(h->context, CL_MEM_READ_WRITE, SIZE, NULL, &result);
    assert_int_equal(skim_opencl_buffer_wrap(device, one, SIZE, &from), SKIM_OK);
    assert_int_equal(skim_opencl_buffer_wrap(device, other, BYTES, &to), SKIM_OK);
    assert_int_equal(skim_buffer_size(to), BYTES);

    cl_event written = NULL, copied = NULL;
    assert_int_equal(
        h->cl.EnqueueWriteBuffer(h->unordered, one, CL_FALSE, 0, SIZE, sent, 0, NULL, &written),
        CL_SUCCESS);
    assert_int_equal(skim_opencl_queue_wait_event(queue, written), SKIM_OK);
    assert_int_equal(skim_queue_copy(queue, from, 3, to, 0, BYTES), SKIM_OK);
    assert_int_equal(skim_opencl_queue_get_event(queue, &copied), SKIM_OK);
    uint64_t point = 0;
    h->cl.Flush(h->unordered);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 1);
    assert_int_equal(
        h->cl.EnqueueReadBuffer(h->unordered, other, CL_TRUE, 0, BYTES, found, 1, &copied, NULL),
        CL_SUCCESS);
    assert_memory_equal(found, sent + 3, BYTES);
    h->cl.ReleaseEvent(written);
    h->cl.ReleaseEvent(copied);
    // The host's own release does not take it from Skim.
    h->cl.ReleaseMemObject(one);
    memset(found, 0, SIZE);
    assert_int_equal(skim_queue_download(queue, from, 0, found, SIZE), SKIM_OK);
    assert_int_equal(skim_queue_finish(queue), SKIM_OK);
    assert_memory_equal(found, sent, SIZE);
    skim_queue_destroy(queue);
    skim_buffer_destroy(from);
    skim_buffer_destroy(to);
    h->cl.ReleaseMemObject(other);
    skim_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_those_of_the_queue),
        cmocka_unit_test(what_does_not_belong_together_is_refused),
        cmocka_unit_test(bytes_travel_by_events),
        cmocka_unit_test(cases_pass_in_the_hosts_context),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
