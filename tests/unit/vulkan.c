// The front of skim/vulkan.h, without a driver: what is checked before the backend is asked, and
// what it is told.
#include "tests/unit/fixture.h"

#include "skim/vulkan.h"

static struct {
    const skim_vulkan_options *options; // of the last open, copied
    skim_vulkan_options copy;
    uint32_t index;
    uint8_t uuid; // that an opened device has
    uint64_t handle, value;
    bool signals;
} told;

static skim_status open_told(skim_device *device, uint32_t index, const skim_open_options *options,
                             skim_error *error)
{
    told.index = index;
    told.options = options->vulkan;
    if (options->vulkan)
        told.copy = *options->vulkan;
    skim_status status = null_backend.open(device, index, options, error);
    memset(&device->info, 0, sizeof device->info);
    device->info.uuid[15] = told.uuid;
    return status;
}

static skim_status wrap_told(skim_buffer *buffer, uint64_t handle)
{
    told.handle = handle;
    return null_control_now.fail_entry
               ? skim_fail(&buffer->device->error, SKIM_UNSUPPORTED, "not this one")
               : SKIM_OK;
}

static void destroy_wrapped(skim_buffer *buffer)
{
    assert_null(buffer->impl);
}

static skim_status semaphore_told(skim_backend_queue *queue, uint64_t handle, uint64_t value,
                                  bool signals)
{
    (void)queue;
    told.handle = handle;
    told.value = value;
    told.signals = signals;
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
    r.backend.name = "vulkan";
    r.backend.open = open_told;
    r.backend.buffer_wrap = wrap_told;
    r.backend.semaphore = semaphore_told;
    // Another backend with the same UUIDs comes first.
    const skim_registration list[] = {{"null", &null_backend}, {"vulkan", &r.backend}};
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

static struct VkInstance_T *instance = (void *)&told;
static struct VkPhysicalDevice_T *physical = (void *)&told;
static struct VkDevice_T *handle = (void *)&told;
static struct VkQueue_T *queue_handle = (void *)&told;

static void lock(void *user)
{
    (void)user;
}

static uint64_t required_features(void)
{
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    uint64_t features = 0;
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    for (uint32_t i = 0; i < needs.item_count; i++) {
        skim_vulkan_requirement item = {.size_of = sizeof item};
        assert_int_equal(skim_vulkan_requirement_info(i, &item), SKIM_OK);
        features |= item.required ? item.feature : 0;
    }
    return features;
}

static skim_vulkan_options whole(void)
{
    return (skim_vulkan_options){.size_of = sizeof(skim_vulkan_options),
                                 .instance = instance,
                                 .physical_device = physical,
                                 .device = handle,
                                 .queue = queue_handle,
                                 .features = required_features(),
                                 .lock = {lock, lock, NULL}};
}

static void requirements_are_data(void **state)
{
    (void)state;
    skim_vulkan_requirements needs = {.size_of = sizeof needs};
    skim_vulkan_requirement item = {.size_of = sizeof item};
    assert_int_equal(skim_vulkan_get_requirements(NULL), SKIM_INVALID);
    assert_int_equal(skim_vulkan_requirement_info(0, NULL), SKIM_INVALID);
    assert_int_equal(skim_vulkan_get_requirements(&needs), SKIM_OK);
    assert_int_equal(needs.api_version, 0x402000); // 1.2
    assert_int_equal(needs.buffer_usage, 0x20023);
    assert_int_equal(skim_vulkan_requirement_info(needs.item_count, &item), SKIM_INVALID);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < needs.item_count; i++) {
        assert_int_equal(skim_vulkan_requirement_info(i, &item), SKIM_OK);
        assert_true(item.name[0]);
        assert_int_equal(item.structure != NULL, item.feature != 0);
        assert_int_equal(seen & item.feature, 0);
        seen |= item.feature;
    }
    assert_int_equal(seen, SKIM_VULKAN_FEATURE_STORAGE_16BIT | SKIM_VULKAN_FEATURE_BUFFER_ADDRESS |
                               SKIM_VULKAN_FEATURE_TIMELINE | SKIM_VULKAN_FEATURE_FLOAT16 |
                               SKIM_VULKAN_FEATURE_SUBGROUP_SIZE |
                               SKIM_VULKAN_FEATURE_FULL_SUBGROUPS);
}

static void refused(rig *r, skim_vulkan_options options, skim_status status, const char *words)
{
    skim_device *device = NULL;
    char text[400] = "";
    assert_int_equal(skim_vulkan_device_open(r->runtime, &options, &device), status);
    assert_null(device);
    skim_runtime_error(r->runtime, text, sizeof text);
    if (!strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
    assert_int_equal(null_record_now.count, 0);
}

static void options_are_checked_first(void **state)
{
    rig *r = *state;
    skim_vulkan_options bad = whole();
    skim_device *device = NULL;
    assert_int_equal(skim_vulkan_device_open(NULL, &bad, &device), SKIM_INVALID);
    assert_int_equal(skim_vulkan_device_open(r->runtime, &bad, NULL), SKIM_INVALID);
    bad.size_of = 8;
    refused(r, bad, SKIM_INVALID, "size_of");
    bad = whole(), bad.instance = NULL;
    refused(r, bad, SKIM_INVALID, "instance is NULL");
    bad = whole(), bad.physical_device = NULL;
    refused(r, bad, SKIM_INVALID, "physical_device is NULL");
    bad = whole(), bad.device = NULL;
    refused(r, bad, SKIM_INVALID, "device is NULL");
    bad = whole(), bad.queue = NULL;
    refused(r, bad, SKIM_INVALID, "queue is NULL");
    bad = whole(), bad.selector = "vulkan";
    refused(r, bad, SKIM_INVALID, "selector");
    bad = whole(), bad.lock.lock = NULL;
    refused(r, bad, SKIM_INVALID, "lock and unlock");
    bad = whole(), bad.allocation_max = 1;
    refused(r, bad, SKIM_INVALID, "allocation_max is 1;");
    bad = whole(), bad.features &= ~SKIM_VULKAN_FEATURE_BUFFER_ADDRESS;
    refused(r, bad, SKIM_UNSUPPORTED, "bufferDeviceAddress");
    const char *const selectors[] = {"", "auto", "null", "null:0", "vulkan2", "Vulkan"};
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++)
        refused(r, (skim_vulkan_options){.size_of = sizeof bad, .selector = selectors[i]},
                SKIM_INVALID, "selects no Vulkan device");
    refused(r, (skim_vulkan_options){.size_of = sizeof bad, .selector = "vulkan:2"}, SKIM_NO_DEVICE,
            "vulkan has 2");
    refused(r, (skim_vulkan_options){.size_of = sizeof bad, .selector = "vulkan:x"}, SKIM_INVALID,
            "no device selector");
    refused(r,
            (skim_vulkan_options){.size_of = sizeof bad,
                                  .selector = "00000000000000000000000000000003"},
            SKIM_NO_DEVICE, "no vulkan device has this UUID");
}

static void a_selector_opens_what_it_names(void **state)
{
    rig *r = *state;
    const struct {
        const char *selector;
        uint32_t index;
    } opened[] = {
        {NULL, 0}, {"vulkan", 0}, {"vulkan:1", 1}, {"00000000-00000000-0000000000000002", 1}};
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++) {
        const skim_vulkan_options options = {
            .size_of = sizeof options, .allocation_max = 65536, .selector = opened[i].selector};
        skim_device *device = NULL;
        told.index = 99;
        assert_int_equal(skim_vulkan_device_open(r->runtime, &options, &device), SKIM_OK);
        assert_int_equal(told.index, opened[i].index);
        assert_non_null(told.options);
        assert_int_equal(told.copy.allocation_max, 65536);
        assert_null(told.copy.device);
        skim_device_close(device);
    }
    skim_device *device = NULL;
    assert_int_equal(skim_vulkan_device_open(r->runtime, NULL, &device), SKIM_OK);
    skim_device_close(device);
    // skim_device_open has no options of Vulkan's.
    assert_int_equal(skim_device_open(r->runtime, "vulkan", NULL, &device), SKIM_OK);
    assert_null(told.options);
    skim_device_close(device);
}

static void the_hosts_device_needs_none_that_was_found(void **state)
{
    (void)state;
    for (uint32_t found = 0; found < 3; found++) {
        null_control_now.devices = found;
        told.uuid = 2;
        skim_backend backend = null_backend;
        backend.open = open_told;
        const skim_registration registration = {"vulkan", &backend};
        skim_runtime *runtime = NULL;
        skim_device *device = NULL;
        const skim_vulkan_options options = whole();
        assert_int_equal(skim_runtime_create_with(NULL, &registration, 1, &runtime), SKIM_OK);
        assert_int_equal(skim_vulkan_device_open(runtime, &options, &device), SKIM_OK);
        assert_ptr_equal(told.copy.device, handle);
        assert_ptr_equal(told.copy.queue, queue_handle);
        // It has the selector of the one that it is.
        skim_device_info info = {.size_of = sizeof info};
        assert_int_equal(skim_device_get_info(device, &info), SKIM_OK);
        assert_string_equal(info.selector, found == 2 ? "null:1" : "");
        skim_device_close(device);
        null_control_now.fail_entry = "open";
        null_control_now.fail_status = SKIM_UNSUPPORTED;
        assert_int_equal(skim_vulkan_device_open(runtime, &options, &device), SKIM_UNSUPPORTED);
        null_control_now.fail_entry = NULL;
        skim_runtime_destroy(runtime);
    }
}

static void a_build_without_vulkan_says_so(void **state)
{
    (void)state;
    const skim_registration absent[] = {{"null", &null_backend}, {"vulkan", NULL}};
    const skim_vulkan_options imported = whole();
    for (uint32_t count = 1; count <= 2; count++) {
        skim_runtime *runtime = NULL;
        skim_device *device = NULL;
        char text[300] = "";
        assert_int_equal(skim_runtime_create_with(NULL, absent, count, &runtime), SKIM_OK);
        assert_int_equal(skim_vulkan_device_open(runtime, &imported, &device), SKIM_NO_DEVICE);
        skim_runtime_error(runtime, text, sizeof text);
        assert_non_null(strstr(text, "this build of Skim has no vulkan backend"));
        assert_int_equal(skim_vulkan_device_open(runtime, NULL, &device), SKIM_NO_DEVICE);
        assert_null(device);
        skim_runtime_destroy(runtime);
    }
}

static void buffers_are_wrapped_by_a_vulkan_device(void **state)
{
    rig *r = *state;
    skim_device *device = NULL;
    skim_buffer *buffer = NULL;
    r->backend.buffer_destroy = destroy_wrapped;
    assert_int_equal(skim_vulkan_device_open(r->runtime, NULL, &device), SKIM_OK);
    assert_int_equal(skim_vulkan_buffer_wrap(NULL, 5, 64, &buffer), SKIM_INVALID);
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 64, NULL), SKIM_INVALID);
    assert_int_equal(skim_vulkan_buffer_wrap(device, 0, 64, &buffer), SKIM_INVALID);
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 0, &buffer), SKIM_INVALID);
    null_control_now.fail_entry = "wrap";
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 64, &buffer), SKIM_UNSUPPORTED);
    null_control_now.fail_entry = NULL;
    assert_null(buffer);
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 64, &buffer), SKIM_OK);
    assert_int_equal(told.handle, 5);
    assert_int_equal(skim_buffer_size(buffer), 64);
    skim_buffer_destroy(buffer);
    atomic_store(&device->lost, true);
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 64, &buffer), SKIM_DEVICE_LOST);
    skim_device_close(device);
    assert_int_equal(skim_device_open(r->runtime, "null", NULL, &device), SKIM_OK);
    char text[300] = "";
    assert_int_equal(skim_vulkan_buffer_wrap(device, 5, 64, &buffer), SKIM_UNSUPPORTED);
    skim_device_error(device, text, sizeof text);
    assert_non_null(strstr(text, "null:0 is not a Vulkan device"));
    skim_device_close(device);
}

static void semaphores_count_as_recorded_work(void **state)
{
    rig *r = *state;
    skim_device *device = NULL;
    skim_queue *queue = NULL;
    uint64_t point = 0;
    assert_int_equal(skim_vulkan_device_open(r->runtime, NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    assert_int_equal(skim_vulkan_queue_wait_semaphore(NULL, 5, 6), SKIM_INVALID);
    assert_int_equal(skim_vulkan_queue_wait_semaphore(queue, 0, 6), SKIM_INVALID);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 0);
    assert_int_equal(skim_vulkan_queue_wait_semaphore(queue, 5, 6), SKIM_OK);
    assert_int_equal(told.handle, 5);
    assert_int_equal(told.value, 6);
    assert_false(told.signals);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 1);
    assert_int_equal(skim_vulkan_queue_signal_semaphore(queue, 7, 8), SKIM_OK);
    assert_true(told.signals);
    assert_int_equal(skim_queue_submit(queue, &point), SKIM_OK);
    assert_int_equal(point, 2);
    atomic_store(&device->lost, true);
    assert_int_equal(skim_vulkan_queue_signal_semaphore(queue, 7, 9), SKIM_DEVICE_LOST);
    skim_queue_destroy(queue);
    skim_device_close(device);
    assert_int_equal(skim_device_open(r->runtime, "null", NULL, &device), SKIM_OK);
    assert_int_equal(skim_queue_create(device, &queue), SKIM_OK);
    assert_int_equal(skim_vulkan_queue_wait_semaphore(queue, 5, 6), SKIM_UNSUPPORTED);
    assert_int_equal(skim_vulkan_queue_signal_semaphore(queue, 5, 6), SKIM_UNSUPPORTED);
    skim_queue_destroy(queue);
    skim_device_close(device);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requirements_are_data),
        TEST(options_are_checked_first),
        TEST(a_selector_opens_what_it_names),
        TEST(the_hosts_device_needs_none_that_was_found),
        TEST(a_build_without_vulkan_says_so),
        TEST(buffers_are_wrapped_by_a_vulkan_device),
        TEST(semaphores_count_as_recorded_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
