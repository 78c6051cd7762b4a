// The front of skim/opencl.h, without a driver: what is checked before the backend is asked, and
// what it is told.
#include "tests/unit/fixture.h"

#include "skim/opencl.h"

static struct {
    skim_opencl_options copy; // of the last open
    bool given;
    uint32_t index;
    uint64_t handle;
} told;

static skim_status open_told(skim_device *device, uint32_t index, const skim_open_options *options,
                             skim_error *error)
{
    told.index = index;
    told.given = options->opencl != NULL;
    if (options->opencl)
        told.copy = *options->opencl;
    return null_backend.open(device, index, options, error);
}

static skim_status wrap_told(skim_buffer *buffer, uint64_t handle)
{
    (void)buffer;
    told.handle = handle;
    return SKIM_OK;
}

static void destroy_wrapped(skim_buffer *buffer)
{
    assert_null(buffer->impl);
}

static skim_status wait_told(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                             bool signals)
{
    (void)queue;
    assert_int_equal(value, 0);
    assert_false(signals);
    told.handle = handle;
    return SKIM_OK;
}

static skim_status event_told(skim_backend_queue *queue, uint64_t *handle)
{
    (void)queue;
    *handle = (uint64_t)(uintptr_t)&told;
    return SKIM_OK;
}

typedef struct rig {
    skim_backend backend;
    skim_runtime *runtime;
} rig;

static int setup(void **state)
{
    static rig r;
    null_reset();
    memset(&told, 0, sizeof told);
    null_control_now.devices = 2;
    r.backend = null_backend;
    r.backend.name = "opencl";
    r.backend.open = open_told;
    r.backend.buffer_wrap = wrap_told;
    r.backend.semaphore = wait_told;
    r.backend.event = event_told;
    const skim_registration list[] = {{"null", &null_backend}, {"opencl", &r.backend}};
    assert_int_equal(skim_runtime_create_with(NULL, list, 2, &r.runtime), SKIM_OK);
    *state = &r;
    return 0;
}

static int teardown(void **state)
{
    rig *r = *state;
    skim_runtime_destroy(r->runtime);
    return 0;
}

static skim_opencl_options whole(void)
{
    return (skim_opencl_options){.size_of = sizeof(skim_opencl_options),
                                 .context = (void *)&told,
                                 .device = (void *)&told,
                                 .queue = (void *)&told};
}

static void refused(rig *r, skim_opencl_options options, skim_status status, const char *words)
{
    skim_device *device = NULL;
    char text[400] = "";
    assert_int_equal(skim_opencl_device_open(r->runtime, &options, &device), status);
    assert_null(device);
    skim_runtime_error(r->runtime, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
    assert_int_equal(null_record_now.count, 0);
}

static void options_are_checked_first(void **state)
{
    rig *r = *state;
    skim_opencl_options bad = whole();
    skim_device *device = NULL;
    assert_int_equal(skim_opencl_device_open(NULL, &bad, &device), SKIM_INVALID);
    assert_int_equal(skim_opencl_device_open(r->runtime, &bad, NULL), SKIM_INVALID);
    bad.size_of = 4;
    refused(r, bad, SKIM_INVALID, "size_of");
    bad = whole(), bad.context = NULL;
    refused(r, bad, SKIM_INVALID, "context is NULL");
    bad = whole(), bad.device = NULL;
    refused(r, bad, SKIM_INVALID, "device is NULL");
    bad = whole(), bad.context = NULL, bad.device = NULL;
    refused(r, bad, SKIM_INVALID, "a queue of the host's");
    bad = whole(), bad.selector = "opencl";
    refused(r, bad, SKIM_INVALID, "selector");
    bad = whole(), bad.allocation_max = 65535;
    refused(r, bad, SKIM_INVALID, "allocation_max is 65535;");
    const char *const selectors[] = {"", "auto", "null:0", "opencl2", "OpenCL", "vulkan"};
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++)
        refused(r, (skim_opencl_options){.size_of = sizeof bad, .selector = selectors[i]},
                SKIM_INVALID, "selects no OpenCL device");
    refused(r, (skim_opencl_options){.size_of = sizeof bad, .selector = "opencl:2"}, SKIM_NO_DEVICE,
            "opencl has 2");
}

static void what_is_given_reaches_the_backend(void **state)
{
    rig *r = *state;
    skim_device *device = NULL;
    skim_opencl_options options = {
        .size_of = sizeof options, .allocation_max = 65536, .selector = "opencl:1", .disable = 3};
    assert_int_equal(skim_opencl_device_open(r->runtime, &options, &device), SKIM_OK);
    assert_int_equal(told.index, 1);
    assert_int_equal(told.copy.allocation_max, 65536);
    skim_device_close(device);
    assert_int_equal(skim_opencl_device_open(r->runtime, NULL, &device), SKIM_OK);
    assert_int_equal(told.index, 0);
    skim_device_close(device);
    options = whole();
    assert_int_equal(skim_opencl_device_open(r->runtime, &options, &device), SKIM_OK);
    assert_ptr_equal(told.copy.queue, &told);
    skim_device_close(device);
    // skim_device_open has no options of OpenCL's.
    assert_int_equal(skim_device_open(r->runtime, "opencl", NULL, &device), SKIM_OK);
    assert_false(told.given);
    skim_device_close(device);
}

static void a_build_without_opencl_says_so(void **state)
{
    (void)state;
    const skim_registration absent[] = {{"null", &null_backend}, {"opencl", NULL}};
    const skim_opencl_options imported = whole();
    for (uint32_t count = 1; count <= 2; count++) {
        skim_runtime *runtime = NULL;
        skim_device *device = NULL;
        char text[300] = "";
        assert_int_equal(skim_runtime_create_with(NULL, absent, count, &runtime), SKIM_OK);
        assert_int_equal(skim_opencl_device_open(runtime, &imported, &device), SKIM_NO_DEVICE);
        skim_runtime_error(runtime, text, sizeof text);
        assert_non_null(strstr(text, "this build of Skim has no opencl backend"));
        assert_int_equal(skim_opencl_device_open(runtime, NULL, &device), SKIM_NO_DEVICE);
        assert_null(device);
        skim_runtime_destroy(runtime);
    }
}

static void buffers_and_events_are_checked(void **state)
{
    rig *r = *state;
    skim_device *device = NULL;
    skim_queue *queue = NULL;
    skim_buffer *buffer = NULL;
    struct _cl_mem *memory = (void *)&told;
    struct _cl_event *event = (void *)&told, *given = NULL;
    uint64_t point = 0;
    r->backend.buffer_destroy = destroy_wrapped;
    assert_int_equal(skim_opencl_device_open(r->runtime, NULL, &device), SKIM_OK);
    assert_int_equal(skim_opencl_buffer_wrap(NULL, memory, 64, &buffer), SKIM_INVALID);
    assert_int_equal(skim_opencl_buffer_wrap(device, NULL, 64, &buffer), SKIM_INVALID);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 0, &buffer), SKIM_INVALID);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 64, NULL), SKIM_INVALID);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 64, &buffer), SKIM_OK);
    assert_int_equal(told.handle, (uint64_t)(uintptr_t)memory);
    skim_buffer_destroy(buffer);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    assert_int_equal(skim_opencl_queue_wait_event(NULL, event), SKIM_INVALID);
    assert_int_equal(skim_opencl_queue_wait_event(queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_opencl_queue_get_event(queue, NULL), SKIM_INVALID);
    assert_int_equal(skim_opencl_queue_wait_event(queue, event), SKIM_OK);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 1);
    assert_int_equal(skim_opencl_queue_get_event(queue, &given), SKIM_OK);
    assert_ptr_equal(given, event);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 2);
    atomic_store(&device->lost, true);
    assert_int_equal(skim_opencl_queue_wait_event(queue, event), SKIM_DEVICE_LOST);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 64, &buffer), SKIM_DEVICE_LOST);
    skim_queue_destroy(queue);
    skim_device_close(device);

    assert_int_equal(skim_device_open(r->runtime, "null", NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    assert_int_equal(skim_opencl_buffer_wrap(device, memory, 64, &buffer), SKIM_UNSUPPORTED);
    assert_int_equal(skim_opencl_queue_wait_event(queue, event), SKIM_UNSUPPORTED);
    assert_int_equal(skim_opencl_queue_get_event(queue, &given), SKIM_UNSUPPORTED);
    skim_queue_destroy(queue);
    skim_device_close(device);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(options_are_checked_first),
        TEST(what_is_given_reaches_the_backend),
        TEST(a_build_without_opencl_says_so),
        TEST(buffers_and_events_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
