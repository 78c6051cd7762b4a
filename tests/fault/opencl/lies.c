// What the OpenCL backend makes of drivers that lack something, lie about it, or change their mind:
// a device that is refused says why, one that is opened works, and a compiler that fails is quoted.
#include "skim/opencl.h"
#include "tests/fault/opencl/driving.h"
#include "tests/fault/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fake_control *driver;
static uint32_t passed, failed;
static const char *subject;

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (condition) {                                                                           \
            passed++;                                                                              \
        } else {                                                                                   \
            failed++;                                                                              \
            printf("FAILED: %s: ", subject);                                                       \
            printf(__VA_ARGS__);                                                                   \
            printf(" (line %d)\n", __LINE__);                                                      \
        }                                                                                          \
    } while (0)

// A runtime on a driver with lies, and what was opened of it.
typedef struct stage {
    skim_runtime *runtime;
    skim_device *device;
    skim_queue *queue;
} stage;

static void set_lies(const char *name, const fake_lies *lies)
{
    static const fault_plan none = {.kind = FAULT_NONE};
    const fault_variant variant = {.name = name, .driver = lies, .disable = SKIM_FEATURE_WIDE};
    subject = name;
    fault_reset(&variant, &none);
}

static void create_runtime(stage *own)
{
    const skim_runtime_options options = {.size_of = sizeof options,
                                          .allocator = fault_allocator(),
                                          .log = fault_log(),
                                          .store = fault_store()};
    *own = (stage){.runtime = NULL};
    skim_status status = skim_runtime_create_with(&options, fault_registration(), 1, &own->runtime);
    CHECK(status == SKIM_OK, "no runtime: %s", skim_status_name(status));
}

static skim_status open_stage(stage *own)
{
    const skim_device_options options = {.size_of = sizeof options, .disable = SKIM_FEATURE_WIDE};
    create_runtime(own);
    skim_status status = skim_device_open(own->runtime, "opencl:0", &options, &own->device);
    return status == SKIM_OK ? skim_queue_create(own->device, &own->queue) : status;
}

static void close_stage(stage *own)
{
    skim_queue_destroy(own->queue);
    skim_device_close(own->device);
    skim_runtime_destroy(own->runtime);
    fault_check_closed();
    CHECK(!fault_now.violation[0], "%s", fault_now.violation);
    CHECK(fault_now.blocks == 0, "%u blocks of host memory are left", (unsigned)fault_now.blocks);
    fault_now.blocks = fault_now.bytes = 0;
}

// ---- devices that cannot be used

// No device, and both who lists and who opens is told why, in words that hold `words`.
static void check_refused(const char *name, const fake_lies *lies, const char *words)
{
    stage own;
    char text[SKIM_ERROR_SIZE] = "";
    set_lies(name, lies);
    skim_status status = open_stage(&own);
    skim_backend_info info = {.size_of = sizeof info};
    skim_runtime_backend_info(own.runtime, 0, &info);
    skim_runtime_error(own.runtime, text, sizeof text);
    CHECK(info.device_count == 0, "there is a device");
    CHECK(strstr(info.reason, words), "the reason is \"%s\", without \"%s\"", info.reason, words);
    CHECK(status == SKIM_NO_DEVICE, "opening says \"%s\"", skim_status_name(status));
    CHECK(strstr(text, words), "opening says \"%s\", without \"%s\"", text, words);
    close_stage(&own);
}

static void refused(void)
{
    static const struct {
        const char *name, *words;
        fake_lies lies;
    } cases[] = {
        {"no platform", "no OpenCL driver is installed", {.no_platform = true}},
        {"no device", "know no device", {.no_device = true}},
        {"a driver of 1.1", "older than 1.2", {.version = "OpenCL 1.1 fake"}},
        {"a version that is none", "older than 1.2", {.version = "Fake 3.0"}},
        {"the embedded profile", "embedded profile", {.profile = "EMBEDDED_PROFILE"}},
        {"not available", "not available", {.unavailable = true}},
        {"no compiler", "no compiler", {.no_compiler = true}},
        {"big-endian", "big-endian", {.big_endian = true}},
        {"little local memory", "32 KiB of local memory", {.local_memory = 16384}},
        {"a GPU with few work-items", "fewer than 64", {.is_gpu = true, .threads = 32}},
        {"few arguments", "1024 bytes of arguments", {.parameter_size = 512}},
        {"allocations of a page", "64 KiB in one piece", {.allocation_max = 4096}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].name, &cases[i].lies, cases[i].words);
}

static void vanishing(void)
{
    stage own;
    char text[SKIM_ERROR_SIZE] = "";
    set_lies("a device that vanishes before it is opened", &(fake_lies){.vanishes_after = 1});
    skim_status status = open_stage(&own);
    CHECK(skim_runtime_device_count(own.runtime) == 1, "it was not there at first");
    skim_runtime_error(own.runtime, text, sizeof text);
    CHECK(status == SKIM_NO_DEVICE, "opening says \"%s\"", skim_status_name(status));
    CHECK(strstr(text, "no longer"), "opening says \"%s\"", text);
    close_stage(&own);
}

static void infos(void)
{
    stage own;
    skim_device_info info = {.size_of = sizeof info};
    set_lies("a GPU with a UUID", &(fake_lies){.is_gpu = true, .has_uuid = true, .name = "Fake"});
    create_runtime(&own);
    CHECK(skim_runtime_device_info(own.runtime, 0, &info) == SKIM_OK, "there is no device");
    CHECK(info.type == SKIM_DEVICE_DISCRETE && strcmp(info.name, "Fake") == 0, "%d \"%s\"",
          (int)info.type, info.name);
    CHECK(memcmp(info.uuid, "a fake device!!", 16) == 0, "the UUID is another");
    close_stage(&own);
    set_lies("a CPU is software", &(fake_lies){.no_device = false});
    create_runtime(&own);
    CHECK(skim_runtime_device_info(own.runtime, 0, &info) == SKIM_OK, "there is no device");
    CHECK(info.type == SKIM_DEVICE_SOFTWARE, "%d", (int)info.type);
    close_stage(&own);
}

// ---- memory

static void memory(void)
{
    const uint64_t mib = 1 << 20;
    stage own;
    skim_buffer *first = NULL, *second = NULL;
    char text[SKIM_ERROR_SIZE] = "";
    set_lies("64 MiB of memory", &(fake_lies){.memory = 64 * mib});
    CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
    CHECK(skim_buffer_create(own.device, 40 * mib, &first) == SKIM_OK, "no 40 MiB");
    CHECK(skim_buffer_create(own.device, 40 * mib, &second) == SKIM_NO_MEMORY, "80 MiB of 64");
    skim_device_error(own.device, text, sizeof text);
    CHECK(strstr(text, "41943040 bytes wanted"), "it says \"%s\"", text);
    skim_buffer_destroy(first);
    CHECK(skim_buffer_create(own.device, 40 * mib, &second) == SKIM_OK, "no 40 MiB again");
    skim_buffer_destroy(second);
    close_stage(&own);
}

// ---- the compiler

static const skim_shape shape = {.size_of = sizeof shape,
                                 .q_heads = 4,
                                 .kv_heads = 2,
                                 .key_dim = 64,
                                 .value_dim = 64,
                                 .page_size = 16,
                                 .type = SKIM_F16,
                                 .slots = 8,
                                 .max_rows = 1,
                                 .max_tokens = 4,
                                 .max_pages = 8};

static void a_compiler_that_fails(void)
{
    stage own;
    char text[SKIM_ERROR_SIZE] = "";
    set_lies("a compiler that fails", &(fake_lies){.bad_source = true});
    CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
    skim_status status = skim_queue_prepare(own.queue, &shape);
    skim_queue_error(own.queue, text, sizeof text);
    CHECK(status == SKIM_FAILED, "\"%s\"", skim_status_name(status));
    CHECK(strstr(text, "line 7: this compiler is out of order"), "it says \"%s\"", text);
    CHECK(driving_compiler_lines() == 2, "%u lines of its log", driving_compiler_lines());
    driver->lies.bad_source = false;
    CHECK(skim_queue_prepare(own.queue, &shape) == SKIM_OK, "nor does it later");
    close_stage(&own);
}

// What one device left in the store another one takes, unless it is damaged or of another driver.
static void binaries(void)
{
    static const char *const cases[] = {"binaries that are kept", "binaries that are damaged",
                                        "binaries that are cut off", "binaries of another driver"};
    for (int i = 0; i < 4; i++) {
        stage own;
        set_lies(cases[i], &(fake_lies){.no_device = false});
        CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
        CHECK(skim_queue_prepare(own.queue, &shape) == SKIM_OK, "it cannot be prepared");
        close_stage(&own);
        if (i == 1 || i == 2)
            driving_spoil_store(i == 1 ? 0 : 3);
        driver->lies.other_driver = i == 3;
        const uint32_t sources = driver->calls[FAKE_CreateProgramWithSource];
        const uint32_t taken = driver->binaries_taken;
        CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
        CHECK(skim_queue_prepare(own.queue, &shape) == SKIM_OK, "it cannot be prepared");
        CHECK((driver->calls[FAKE_CreateProgramWithSource] == sources) == (i == 0),
              "%u programs from source", driver->calls[FAKE_CreateProgramWithSource] - sources);
        CHECK((driver->binaries_taken > taken) == (i == 0), "%u from binaries",
              driver->binaries_taken - taken);
        close_stage(&own);
    }
}

// Nothing is built once a queue is prepared: a step finds its kernels.
static void nothing_is_built_in_a_step(void)
{
    static world w;
    set_lies("a step after prepare", &(fake_lies){.no_device = false});
    for (uint32_t i = 0; i < fault_scenario_count; i++) {
        const scenario *one = &fault_scenarios[i];
        if (strcmp(one->name, "ragged batch") && strcmp(one->name, "i8 bounds"))
            continue;
        w.problem[0] = '\0';
        w.verify = true;
        // Calls count from when the cache is prepared.
        skim_status status = world_open(&w, one->name, &one->options, false);
        if (status == SKIM_OK)
            status = one->run(&w);
        CHECK(status == SKIM_OK, "%s: \"%s\"", one->name, skim_status_name(status));
        CHECK(driver->calls[FAKE_EnqueueNDRangeKernel] > 0, "%s: nothing ran", one->name);
        CHECK(driver->calls[FAKE_BuildProgram] == 0 && driver->calls[FAKE_CreateKernel] == 0,
              "%s: %u programs and %u kernels were made", one->name,
              driver->calls[FAKE_BuildProgram], driver->calls[FAKE_CreateKernel]);
        CHECK(driver->calls[FAKE_CreateBuffer] == 0, "%s: %u buffers were made", one->name,
              driver->calls[FAKE_CreateBuffer]);
        world_close(&w);
        CHECK(!w.problem[0], "%s: %s", one->name, w.problem);
        set_lies("a step after prepare", &(fake_lies){.no_device = false});
    }
}

int main(void)
{
    bool skipped;
    driver = driving_find(&skipped);
    if (!driver)
        return skipped ? 77 : 2;
    refused();
    vanishing();
    infos();
    memory();
    a_compiler_that_fails();
    binaries();
    nothing_is_built_in_a_step();
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
