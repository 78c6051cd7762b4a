// Drivers and GPUs that will not do give no device and a reason in words; memory that is not there
// says how much was wanted and how much there is; and no context of the host's is disturbed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "skim/skim.h"
#include "tests/cuda/driver.h"

#include <dlfcn.h>
#include <string.h>

static emulated_driver *driver;

static int find_driver(void **state)
{
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "skim_emulated_driver") : NULL;
    skim_emulated_driver_function *find;
    if (!symbol)
        return -1;
    memcpy(&find, &symbol, sizeof symbol);
    driver = find();
    return 0;
}

// What the runtime says of a driver that presents itself so.
static void assert_reason(const emulated_device *device, const char *reason)
{
    skim_runtime *runtime;
    skim_device *opened;
    char text[512];
    driver->device = *device;
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    skim_backend_info info = {.size_of = sizeof info};
    assert_int_equal(skim_runtime_backend_info(runtime, 0, &info), SKIM_OK);
    assert_string_equal(info.name, "cuda");
    assert_string_equal(info.reason, reason);
    assert_int_equal(skim_device_open(runtime, "cuda", NULL, &opened), SKIM_NO_DEVICE);
    skim_runtime_error(runtime, text, sizeof text);
    assert_non_null(strstr(text, reason));
    skim_runtime_destroy(runtime);
    driver->device = (emulated_device){.eager = false};
}

static void test_what_will_not_do_says_why(void **state)
{
    (void)state;
    assert_reason(&(emulated_device){.version = 12040},
                  "the NVIDIA driver is of CUDA 12.4; 13.0 is needed: update it");
    assert_reason(&(emulated_device){.devices = -1}, "the NVIDIA driver knows no GPU");
    assert_reason(&(emulated_device){.capability = 61},
                  "emulated GPU 0 of Skim's tests cannot be used: it is of compute capability 6.1; "
                  "7.5 is needed");
}

static void test_tensor_cores_are_there_from_8_0_on(void **state)
{
    (void)state;
    for (int capability = 75; capability <= 120; capability += 45) {
        skim_runtime *runtime;
        skim_device *device;
        driver->device = (emulated_device){.capability = capability};
        assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
        assert_int_equal(skim_device_open(runtime, "cuda", NULL, &device), SKIM_OK);
        skim_limits limits = {.size_of = sizeof limits};
        assert_int_equal(skim_device_get_limits(device, &limits), SKIM_OK);
        assert_int_equal((limits.features & SKIM_FEATURE_TENSOR) != 0, capability >= 80);
        skim_device_close(device);
        skim_runtime_destroy(runtime);
    }
    driver->device = (emulated_device){.eager = false};
}

static void test_memory_that_is_not_there_is_said_in_bytes(void **state)
{
    (void)state;
    skim_runtime *runtime;
    skim_device *device;
    skim_buffer *first, *second;
    char text[512];
    driver->device = (emulated_device){.memory = 1 << 20};
    assert_int_equal(skim_runtime_create(NULL, &runtime), SKIM_OK);
    assert_int_equal(skim_device_open(runtime, "cuda", NULL, &device), SKIM_OK);
    assert_int_equal(skim_buffer_create(device, 786432, &first), SKIM_OK);
    assert_int_equal(skim_buffer_create(device, 524288, &second), SKIM_NO_MEMORY);
    skim_device_error(device, text, sizeof text);
    assert_non_null(strstr(text, "524288 bytes wanted, 262144 available"));
    skim_device_info info = {.size_of = sizeof info};
    assert_int_equal(skim_device_get_info(device, &info), SKIM_OK);
    assert_int_equal(info.memory_available, 262144);
    skim_buffer_destroy(first);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    driver->device = (emulated_device){.eager = false};
    assert_int_equal(driver->objects, 0);
    assert_int_equal(driver->contexts, 0);
    assert_int_equal(driver->current, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_will_not_do_says_why),
        cmocka_unit_test(test_tensor_cores_are_there_from_8_0_on),
        cmocka_unit_test(test_memory_that_is_not_there_is_said_in_bytes),
    };
    return cmocka_run_group_tests(tests, find_driver, NULL);
}
