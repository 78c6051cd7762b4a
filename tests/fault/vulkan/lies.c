// What the Vulkan backend makes of drivers that lack something, lie about it, or change their mind:
// a device that is refused says why, and one that is opened works.
#include "skim/vulkan.h"
#include "tests/fault/scenarios.h"
#include "tests/fault/vulkan/driving.h"

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

static void set_lies_without(const char *name, const fake_lies *lies, uint64_t disable)
{
    static const fault_plan none = {.kind = FAULT_NONE};
    const fault_variant variant = {.name = name, .driver = lies, .disable = disable};
    subject = name;
    fault_reset(&variant, &none);
}

static void set_lies(const char *name, const fake_lies *lies)
{
    set_lies_without(name, lies, 0);
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

// chunk: bytes of the largest piece of a buffer; 0: what the driver says.
static skim_status open_stage_in_chunks(stage *own, uint64_t chunk)
{
    const skim_vulkan_options options = {
        .size_of = sizeof options, .selector = "vulkan:0", .allocation_max = chunk};
    create_runtime(own);
    skim_status status = chunk > 0 ? skim_vulkan_device_open(own->runtime, &options, &own->device)
                                   : skim_device_open(own->runtime, "vulkan:0", NULL, &own->device);
    return status == SKIM_OK ? skim_queue_create(own->device, &own->queue) : status;
}

static skim_status open_stage(stage *own)
{
    return open_stage_in_chunks(own, 0);
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
        {"a loader of 1.1", "1.1", {.loader_version = VK_API_VERSION_1_1}},
        {"a driver of 1.1", "older than 1.2", {.device_version = VK_API_VERSION_1_1}},
        {"no 16-bit storage", "storageBuffer16BitAccess", {.no_16bit = true}},
        {"no addresses", "bufferDeviceAddress", {.no_addresses = true}},
        {"no timelines", "timeline", {.no_timeline = true}},
        {"no queue that computes", "computes", {.no_compute = true}},
        {"little shared memory", "shared memory", {.shared_memory = 16384}},
        {"few threads", "256 threads", {.threads = 128}},
        {"few push constants", "push constants", {.push_constants = 64}},
        {"no device", "no device", {.no_device = true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(cases[i].name, &cases[i].lies, cases[i].words);
}

static void missing_from_the_loader(void)
{
    static const char *const names[] = {"vkCreateInstance", "vkEnumerateInstanceVersion",
#define NAME(name) "vk" #name,
                                        SKIM_VULKAN_INSTANCE_FUNCTIONS(NAME)
#undef NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        // Without it what was made stays.
        if (strcmp(names[i], "vkDestroyInstance") == 0)
            continue;
        // Without the first two the loader counts as one of 1.0, which had no more.
        check_refused(names[i], &(fake_lies){.missing = names[i]}, i < 2 ? "1.0" : names[i]);
    }
}

static void missing_from_the_driver(void)
{
    static const char *const names[] = {
#define NAME(name) "vk" #name,
        SKIM_VULKAN_DEVICE_FUNCTIONS(NAME)
#undef NAME
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        stage own;
        char text[SKIM_ERROR_SIZE] = "";
        set_lies(names[i], &(fake_lies){.missing = names[i]});
        skim_status status = open_stage(&own);
        skim_runtime_error(own.runtime, text, sizeof text);
        CHECK(status == SKIM_FAILED, "opening says \"%s\"", skim_status_name(status));
        CHECK(strstr(text, names[i]), "opening says \"%s\"", text);
        close_stage(&own);
    }
}

// The list of devices fails when the runtime is made: no device, and why; or a device nevertheless.
static void failing_lists(void)
{
    static const struct {
        fake_call call;
        uint32_t devices;
    } cases[] = {{FAKE_EnumerateInstanceVersion, 0},
                 {FAKE_CreateInstance, 0},
                 {FAKE_EnumeratePhysicalDevices, 0},
                 {FAKE_EnumerateInstanceExtensionProperties, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const VkResult *result = driver->errors(cases[i].call);
        for (; *result != VK_SUCCESS; result++) {
            stage own;
            set_lies(driver->name(cases[i].call), &(fake_lies){.eager = false});
            driver->reset(&(fake_plan){.set = true, .call = cases[i].call, .result = *result});
            create_runtime(&own);
            skim_backend_info info = {.size_of = sizeof info};
            skim_runtime_backend_info(own.runtime, 0, &info);
            CHECK(info.device_count == cases[i].devices, "%u devices", info.device_count);
            CHECK((info.device_count > 0) == (info.reason[0] == '\0'), "the reason is \"%s\"",
                  info.reason);
            close_stage(&own);
        }
    }
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

// ---- buffers

// A buffer that cannot be had (size 0: a queue, for its staging): the status, and a sentence with
// the words.
static void check_no_buffer(const char *name, const fake_lies *lies, uint64_t size,
                            skim_status wanted, const char *words)
{
    stage own;
    char text[SKIM_ERROR_SIZE] = "";
    skim_buffer *buffer = NULL;
    set_lies(name, lies);
    create_runtime(&own);
    skim_status status = skim_device_open(own.runtime, "vulkan:0", NULL, &own.device);
    CHECK(status == SKIM_OK, "it cannot be opened");
    if (status == SKIM_OK)
        status = size > 0 ? skim_buffer_create(own.device, size, &buffer)
                          : skim_queue_create(own.device, &own.queue);
    CHECK(!buffer && !own.queue, "there is a buffer, or a queue");
    skim_buffer_destroy(buffer);
    if (own.device)
        skim_device_error(own.device, text, sizeof text);
    CHECK(status == wanted, "\"%s\" (%s)", skim_status_name(status), text);
    CHECK(strstr(text, words), "it says \"%s\", without \"%s\"", text, words);
    close_stage(&own);
}

static void no_buffers(void)
{
    const uint64_t mib = 1 << 20;
    check_no_buffer("an address of 0", &(fake_lies){.zero_address = true}, mib, SKIM_FAILED,
                    "no usable address");
    check_no_buffer("an odd address", &(fake_lies){.odd_address = true}, mib, SKIM_FAILED,
                    "no usable address");
    check_no_buffer("no memory type", &(fake_lies){.no_type = true}, mib, SKIM_FAILED,
                    "no memory type");
    check_no_buffer("usage above the budget", &(fake_lies){.budget = 4 * mib, .usage = 8 * mib},
                    mib, SKIM_NO_MEMORY, "0 available");
    check_no_buffer("a budget that is smaller than the heap", &(fake_lies){.budget = 8 * mib},
                    9 * mib, SKIM_NO_MEMORY, "9437184 bytes wanted");
    check_no_buffer("a buffer larger than the heap", &(fake_lies){.heap_size = 16 * mib}, 17 * mib,
                    SKIM_NO_MEMORY, "17825792");
    // A buffer's pieces have 64 KiB at least; staging begins with 256.
    check_no_buffer("allocations of 4 KiB", &(fake_lies){.allocation_max = 4096}, mib,
                    SKIM_NO_MEMORY, "65536 bytes in one piece exceed the driver's largest of 4096");
    check_no_buffer("allocations of a byte", &(fake_lies){.allocation_max = 1}, mib, SKIM_NO_MEMORY,
                    "65536 bytes in one piece exceed the driver's largest of 1");
    check_no_buffer("a queue where allocations have 128 KiB",
                    &(fake_lies){.allocation_max = 131072}, 0, SKIM_NO_MEMORY,
                    "262144 bytes in one piece exceed the driver's largest of 131072");
    check_no_buffer("a queue where no type is good", &(fake_lies){.no_type = true}, 0, SKIM_FAILED,
                    "no memory type");
}

static uint64_t available(const skim_device *device)
{
    skim_device_info info = {.size_of = sizeof info};
    skim_device_get_info(device, &info);
    return info.memory_available;
}

static void budgets(void)
{
    const uint64_t mib = 1 << 20;
    const fake_lies cases[] = {{.heap_size = 64 * mib, .budget = 4096 * mib},
                               {.heap_size = 64 * mib, .no_budget = true},
                               {.heap_size = 64 * mib}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stage own;
        skim_buffer *first = NULL, *second = NULL;
        set_lies("a budget", &cases[i]);
        CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
        uint64_t before = available(own.device);
        CHECK(before <= 64 * mib && before > 60 * mib, "%u MiB are available of 64",
              (unsigned)(before / mib));
        CHECK(skim_buffer_create(own.device, 40 * mib, &first) == SKIM_OK, "no 40 MiB");
        CHECK(available(own.device) + 40 * mib <= before, "what is taken is available");
        skim_status status = skim_buffer_create(own.device, 40 * mib, &second);
        CHECK(status == SKIM_NO_MEMORY, "twice 40 MiB of 64: \"%s\"", skim_status_name(status));
        skim_buffer_destroy(first);
        CHECK(available(own.device) == before, "what was released is not available");
        CHECK(skim_buffer_create(own.device, 40 * mib, &second) == SKIM_OK, "no 40 MiB again");
        skim_buffer_destroy(second);
        close_stage(&own);
    }
}

static unsigned char byte_at(uint64_t i)
{
    return (unsigned char)(i * 131 + (i >> 8) * 7 + (i >> 16));
}

// In transfers of so many bytes, since each is staged in one piece.
static bool upload(const stage *own, skim_buffer *buffer, uint64_t offset,
                   const unsigned char *data, uint64_t size, uint64_t most)
{
    bool right = true;
    for (uint64_t at = 0; at < size && right; at += most)
        right = skim_queue_upload(own->queue, buffer, offset + at, data + at,
                                  size - at < most ? size - at : most) == SKIM_OK;
    return right;
}

static bool download(const stage *own, skim_buffer *buffer, unsigned char *data, uint64_t size,
                     uint64_t most)
{
    bool right = true;
    for (uint64_t at = 0; at < size && right; at += most)
        right = skim_queue_download(own->queue, buffer, at, data + at,
                                    size - at < most ? size - at : most) == SKIM_OK;
    return right && skim_queue_finish(own->queue) == SKIM_OK;
}

// Transfers over the seams of a buffer in pieces, at offsets that suit nobody.
static void seams(const char *name, const fake_lies *lies, uint64_t chunk, uint64_t most)
{
    enum { SIZE = 5 * 131072 + 12 };
    static unsigned char data[SIZE], found[SIZE], model[SIZE], other_model[SIZE];
    stage own;
    skim_buffer *buffer = NULL, *other = NULL;
    set_lies(name, lies);
    CHECK(open_stage_in_chunks(&own, chunk) == SKIM_OK, "it cannot be opened");
    const uint32_t memory = driver->calls[FAKE_AllocateMemory];
    CHECK(skim_buffer_create(own.device, SIZE, &buffer) == SKIM_OK, "no buffer");
    CHECK(driver->calls[FAKE_AllocateMemory] > memory + 1, "it is in one piece");
    CHECK(skim_buffer_create(own.device, SIZE, &other) == SKIM_OK, "no buffer");
    for (uint64_t i = 0; i < SIZE; i++)
        data[i] = byte_at(i);
    static const uint64_t sizes[] = {1, 3, 131072, 131075, 262144 + 5, 400000};
    static const uint64_t offsets[] = {0, 131072, 131071, 65537, 131066, 1};
    bool right = skim_queue_zero(own.queue, other, 0, SIZE) == SKIM_OK &&
                 upload(&own, buffer, 0, data, SIZE, most);
    memcpy(model, data, SIZE);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t from = offsets[i], to = offsets[(i + 2) % 6], size = sizes[i];
        uint64_t zeroed = offsets[(i + 4) % 6];
        right = right && skim_queue_copy(own.queue, buffer, from, other, to, size) == SKIM_OK &&
                skim_queue_zero(own.queue, buffer, zeroed, size) == SKIM_OK &&
                upload(&own, other, zeroed, data + from, sizes[5 - i], most);
        memcpy(other_model + to, model + from, size);
        memset(model + zeroed, 0, size);
        memcpy(other_model + zeroed, data + from, sizes[5 - i]);
    }
    right = right && download(&own, buffer, found, SIZE, most);
    CHECK(right && memcmp(found, model, SIZE) == 0, "the first buffer is wrong");
    right = right && download(&own, other, found, SIZE, most);
    CHECK(right && memcmp(found, other_model, SIZE) == 0, "the second buffer is wrong");
    skim_buffer_destroy(buffer);
    skim_buffer_destroy(other);
    close_stage(&own);
}

static void buffers_in_pieces(void)
{
    seams("pieces of 128 KiB", &(fake_lies){.eager = false}, 131072, UINT64_MAX);
    seams("pieces of 64 KiB, done at once", &(fake_lies){.eager = true}, 65536, UINT64_MAX);
    seams("buffers of 256 KiB", &(fake_lies){.buffer_max = 262144}, 0, 262144);
    // Staging cannot have more at a time either.
    seams("allocations of 256 KiB", &(fake_lies){.allocation_max = 262144}, 0, 262144);
    seams("allocations of 300 KiB", &(fake_lies){.allocation_max = 300 << 10}, 0, 300 << 10);
}

// What kept anything of a cache's tokens is zeroed before it goes back to the driver: pages,
// tables, staging, and the queue's scratch.
static void nothing_is_left_in_memory(void)
{
    static world w;
    static const char *const scenarios[] = {"ragged batch", "i8 bounds"};
    for (uint32_t i = 0; i < fault_scenario_count; i++) {
        const scenario *one = &fault_scenarios[i];
        if (strcmp(one->name, scenarios[0]) != 0 && strcmp(one->name, scenarios[1]) != 0)
            continue;
        set_lies(one->name, &(fake_lies){.eager = false});
        w.problem[0] = '\0';
        driver->dirty = 0;
        skim_status status = world_open(&w, one->name, &one->options, true);
        CHECK(driver->dirty > 0, "the self-test left nothing"); // its tokens are no secret
        driver->dirty = 0;
        if (status == SKIM_OK)
            status = one->run(&w);
        CHECK(status == SKIM_OK, "\"%s\"", skim_status_name(status));
        world_close(&w);
        CHECK(!w.problem[0], "%s", w.problem);
        CHECK(driver->dirty == 0, "%llu bytes are left", (unsigned long long)driver->dirty);
    }
}

// ---- devices that work all the same

static void play_without(const char *name, const fake_lies *lies, uint64_t disable)
{
    static world w;
    set_lies_without(name, lies, disable);
    for (uint32_t i = 0; i < fault_scenario_count; i++) {
        const scenario *one = &fault_scenarios[i];
        bool tier2 = strcmp(one->name, "tier 2") == 0;
        if ((tier2 && lies->timestamp_bits == 1) ||
            (!tier2 && strcmp(one->name, "ragged batch") && strcmp(one->name, "i8 bounds")))
            continue;
        w.problem[0] = '\0';
        w.verify = true;
        skim_status status = world_open(&w, one->name, &one->options, true);
        if (status == SKIM_OK)
            status = one->run(&w);
        CHECK(status == SKIM_OK, "%s: \"%s\"", one->name, skim_status_name(status));
        world_close(&w);
        CHECK(!w.problem[0], "%s: %s", one->name, w.problem);
    }
}

static void play(const char *name, const fake_lies *lies)
{
    play_without(name, lies, 0);
}

static void working(void)
{
    play("a list that is incomplete", &(fake_lies){.incomplete = true});
    play("a driver for portability", &(fake_lies){.has_portability = true});
    play("a device in software", &(fake_lies){.is_software = true});
    play("no budget, done at once", &(fake_lies){.no_budget = true, .eager = true});
    play("no timestamps", &(fake_lies){.timestamp_bits = 1});
    play("timestamps of 36 bits", &(fake_lies){.timestamp_bits = 37});
    play("a later version",
         &(fake_lies){.loader_version = VK_API_VERSION_1_3, .device_version = VK_API_VERSION_1_3});
    play_without("general kernels", &(fake_lies){.eager = false}, SKIM_FEATURE_WIDE);
    play_without("no fast paths", &(fake_lies){.eager = false}, UINT64_MAX);
}

static void subgroups(void)
{
    static const struct {
        const char *name;
        bool used;
        fake_lies lies;
    } cases[] = {
        {"subgroups of 1", false, {.subgroup_size = 1}},
        {"subgroups of 4", false, {.subgroup_size = 4}}, // 8 threads share a page
        {"subgroups of 8", true, {.subgroup_size = 8}},
        {"subgroups of 16", true, {.subgroup_size = 16}},
        {"subgroups of 128", true, {.subgroup_size = 128}},
        {"subgroups of 256", false, {.subgroup_size = 256}},
        {"no control of subgroups", false, {.no_size_control = true}},
        {"no choice of their size", false, {.no_chosen_size = true}},
        {"no full subgroups", false, {.no_full_subgroups = true}},
        {"no choice of their size in compute", false, {.no_size_of_compute = true}},
        {"3 subgroups in a workgroup", false, {.workgroup_subgroups = 3}},
        {"4 subgroups in a workgroup", true, {.workgroup_subgroups = 4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        stage own;
        skim_limits limits = {.size_of = sizeof limits};
        set_lies(cases[i].name, &cases[i].lies);
        CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
        skim_device_get_limits(own.device, &limits);
        CHECK(!!(limits.features & SKIM_FEATURE_SUBGROUPS) == cases[i].used, "used or not");
        close_stage(&own);
        play(cases[i].name, &cases[i].lies);
    }
}

static void timestamps(void)
{
    stage own;
    skim_limits limits = {.size_of = sizeof limits};
    set_lies("no timestamps", &(fake_lies){.timestamp_bits = 1});
    CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
    skim_device_get_limits(own.device, &limits);
    CHECK(limits.timestamps == 0, "%u timestamps", limits.timestamps);
    CHECK(skim_queue_mark(own.queue, 0) == SKIM_UNSUPPORTED, "there are marks");
    close_stage(&own);
    // The fake clock goes on by 1000 with each command of a query, of which a mark is two, and has
    // more digits than a double.
    uint64_t times[2] = {0, 0};
    set_lies("a clock that began in 1970", &(fake_lies){.eager = false});
    CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
    for (uint32_t i = 0; i < 2; i++)
        CHECK(skim_queue_mark(own.queue, i) == SKIM_OK, "no mark");
    CHECK(skim_queue_finish(own.queue) == SKIM_OK, "it does not work");
    for (uint32_t i = 0; i < 2; i++)
        CHECK(skim_queue_mark_time(own.queue, i, &times[i]) == SKIM_OK, "no time");
    CHECK(times[1] - times[0] == 2000, "%llu ns went by",
          (unsigned long long)(times[1] - times[0]));
    close_stage(&own);
}

// ---- kept pipelines

static void prepare_once(const char *name, const fake_lies *lies)
{
    static world w;
    const world_options options = {.prefill = 0};
    driver->lies = *lies;
    subject = name;
    w.problem[0] = '\0';
    CHECK(world_open(&w, name, &options, true) == SKIM_OK, "it cannot be prepared");
    world_close(&w);
    CHECK(!w.problem[0], "%s", w.problem);
}

// The fake driver notes as a violation when it is handed what it never wrote.
static void kept_pipelines(void)
{
    const fake_lies plain = {.eager = false}, other = {.other_cache = true};
    set_lies("pipelines", &plain);
    uint32_t saves = driving_saves();
    prepare_once("pipelines are kept", &plain);
    CHECK(driving_saves() > saves, "nothing was kept");
    saves = driving_saves();
    uint32_t handed = driver->caches_handed;
    prepare_once("kept pipelines are used", &plain);
    CHECK(driver->caches_handed == handed + 1, "they were not handed to the driver");
    CHECK(driving_saves() == saves, "what was kept was kept again");
    prepare_once("kept pipelines of another device", &other);
    CHECK(driver->caches_handed == handed + 1, "they were handed to the driver");
}

// ---- loss

static void check_all_lost(const stage *own, skim_buffer *buffer)
{
    char text[64] = "";
    skim_buffer *made = NULL;
    skim_queue *queue = NULL;
    CHECK(skim_buffer_create(own->device, 64, &made) == SKIM_DEVICE_LOST, "buffer");
    CHECK(skim_queue_create(own->device, &queue) == SKIM_DEVICE_LOST, "queue");
    CHECK(skim_queue_upload(own->queue, buffer, 0, text, 64) == SKIM_DEVICE_LOST, "upload");
    CHECK(skim_queue_download(own->queue, buffer, 0, text, 64) == SKIM_DEVICE_LOST, "download");
    CHECK(skim_queue_zero(own->queue, buffer, 0, 64) == SKIM_DEVICE_LOST, "zero");
    CHECK(skim_queue_mark(own->queue, 0) == SKIM_DEVICE_LOST, "mark");
    CHECK(skim_queue_submit(own->queue, NULL) == SKIM_DEVICE_LOST, "submit");
    CHECK(skim_queue_wait(own->queue, 0, 0) == SKIM_DEVICE_LOST, "wait");
    CHECK(skim_queue_finish(own->queue) == SKIM_DEVICE_LOST, "finish");
    CHECK(!made && !queue && text[0] == '\0', "something was made or written");
}

static void loss(void)
{
    static const fake_call calls[] = {FAKE_QueueSubmit, FAKE_WaitSemaphores};
    for (size_t i = 0; i < 2; i++) {
        stage own;
        char data[64] = "what is uploaded", found[64] = "";
        skim_buffer *buffer = NULL;
        set_lies("a lost device", &(fake_lies){.eager = false});
        CHECK(open_stage(&own) == SKIM_OK, "it cannot be opened");
        CHECK(skim_buffer_create(own.device, 64, &buffer) == SKIM_OK, "no buffer");
        CHECK(skim_queue_upload(own.queue, buffer, 0, data, 64) == SKIM_OK, "no upload");
        CHECK(skim_queue_download(own.queue, buffer, 0, found, 64) == SKIM_OK, "no download");
        driver->reset(&(fake_plan){.set = true, .call = calls[i], .result = VK_ERROR_DEVICE_LOST});
        CHECK(skim_queue_finish(own.queue) == SKIM_DEVICE_LOST, "it is not lost");
        check_all_lost(&own, buffer);
        CHECK(found[0] == '\0', "something was written on a lost device");
        skim_buffer_destroy(buffer);
        skim_queue_destroy(own.queue);
        skim_device_close(own.device);
        own.queue = NULL;
        own.device = NULL;
        buffer = NULL;
        // The same runtime opens it afresh.
        CHECK(skim_device_open(own.runtime, "vulkan:0", NULL, &own.device) == SKIM_OK, "for good");
        CHECK(skim_queue_create(own.device, &own.queue) == SKIM_OK, "no queue");
        CHECK(skim_buffer_create(own.device, 64, &buffer) == SKIM_OK, "no buffer");
        CHECK(skim_queue_upload(own.queue, buffer, 0, data, 64) == SKIM_OK, "no upload");
        CHECK(skim_queue_download(own.queue, buffer, 0, found, 64) == SKIM_OK, "no download");
        CHECK(skim_queue_finish(own.queue) == SKIM_OK, "it does not work");
        CHECK(memcmp(found, data, 64) == 0, "what came back is not what went");
        skim_buffer_destroy(buffer);
        close_stage(&own);
    }
}

int main(void)
{
    driver = driving_find();
    if (!driver)
        return 2;
    refused();
    missing_from_the_loader();
    missing_from_the_driver();
    failing_lists();
    vanishing();
    no_buffers();
    budgets();
    buffers_in_pieces();
    nothing_is_left_in_memory();
    working();
    subgroups();
    timestamps();
    kept_pipelines();
    loss();
    driver->forget();
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
