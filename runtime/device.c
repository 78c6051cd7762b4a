#include "runtime/runtime.h"

#include "runtime/validate.h"

#include <stdlib.h>
#include <string.h>

static skim_status open_index(skim_runtime *runtime, const skim_backend_record *record,
                              uint32_t index, const skim_open_options *options,
                              skim_device **device)
{
    skim_device *made = skim_allocate(&runtime->host, sizeof *made);
    if (!made)
        return skim_fail(&runtime->error, SKIM_NO_MEMORY, "no host memory for a device");
    made->backend = record->backend;
    made->runtime = runtime;
    made->host = &runtime->host;
    if (index < record->device_count)
        made->info = runtime->infos[record->first_device + index];
    skim_error_init(&made->error);
    atomic_init(&made->lost, false);
    atomic_init(&made->objects, 0);

    skim_status status = record->backend->open(made, index, options, &runtime->error);
    if (status != SKIM_OK) {
        skim_error_deinit(&made->error);
        skim_release(&runtime->host, made, sizeof *made);
        return status;
    }
    *device = made;
    return SKIM_OK;
}

static bool is_gpu(skim_device_type type)
{
    return type == SKIM_DEVICE_INTEGRATED || type == SKIM_DEVICE_DISCRETE ||
           type == SKIM_DEVICE_OTHER;
}

static void log_refusal(skim_runtime *runtime, const skim_device_info *info)
{
    char reason[SKIM_ERROR_SIZE];
    skim_error_copy(&runtime->error, reason, sizeof reason);
    skim_log_write(&runtime->host, SKIM_LOG_WARNING, "auto: %s refused: %s", info->selector,
                   reason);
}

// The first device of one kind, GPU or not, in the order of the backends. SKIM_NO_DEVICE if there
// is none, else why the last one could not be opened.
static skim_status open_first(skim_runtime *runtime, bool gpu, const skim_open_options *options,
                              skim_device **device)
{
    skim_status status =
        skim_fail(&runtime->error, SKIM_NO_DEVICE, "there is no device that auto would choose");
    for (uint32_t b = 0; b < runtime->backend_count; b++) {
        const skim_backend_record *record = &runtime->backends[b];
        if (gpu && record->device_count == 0)
            skim_log_write(&runtime->host, SKIM_LOG_INFO, "auto: %s: %s", record->name,
                           record->reason);
        for (uint32_t i = 0; i < record->device_count; i++) {
            const skim_device_info *info = &runtime->infos[record->first_device + i];
            if (is_gpu(info->type) != gpu || info->type == SKIM_DEVICE_SOFTWARE)
                continue;
            status = open_index(runtime, record, i, options, device);
            if (status == SKIM_OK) {
                skim_log_write(&runtime->host, SKIM_LOG_INFO, "auto: %s (%s)", info->selector,
                               info->name);
                return SKIM_OK;
            }
            if (gpu) // something else is tried; after the CPU's refusal, nothing is
                log_refusal(runtime, info);
        }
    }
    return status;
}

// The first real GPU, else the CPU; says in the log why others were passed over.
static skim_status open_auto(skim_runtime *runtime, const skim_open_options *options,
                             skim_device **device)
{
    skim_status status = open_first(runtime, true, options, device);
    return status == SKIM_OK ? status : open_first(runtime, false, options, device);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_uuid(const char *text, uint8_t uuid[16])
{
    unsigned digits = 0;
    memset(uuid, 0, 16);
    for (; *text; text++) {
        if (*text == '-')
            continue;
        int digit = hex_digit(*text);
        if (digit < 0 || digits == 32)
            return false;
        uuid[digits / 2] = (uint8_t)(uuid[digits / 2] << 4 | digit);
        digits++;
    }
    return digits == 32;
}

// Among the devices of one backend, or of all (only NULL).
static skim_status open_uuid(skim_runtime *runtime, const char *only, const uint8_t uuid[16],
                             const skim_open_options *options, skim_device **device)
{
    static const uint8_t none[16];
    for (uint32_t b = 0; b < runtime->backend_count; b++) {
        const skim_backend_record *record = &runtime->backends[b];
        if (only && strcmp(record->name, only) != 0)
            continue;
        for (uint32_t i = 0; i < record->device_count; i++) {
            const uint8_t *own = runtime->infos[record->first_device + i].uuid;
            if (memcmp(own, uuid, 16) == 0 && memcmp(own, none, 16) != 0)
                return open_index(runtime, record, i, options, device);
        }
    }
    return skim_fail(&runtime->error, SKIM_NO_DEVICE,
                     "no %s%sdevice has this UUID; skim_runtime_device_info lists those there are",
                     only ? only : "", only ? " " : "");
}

// Splits "name" or "name:index". False if the part after the colon is no index.
static bool parse_name(const char *selector, size_t *name_length, uint32_t *index)
{
    const char *colon = strchr(selector, ':');
    *name_length = colon ? (size_t)(colon - selector) : strlen(selector);
    *index = 0;
    if (!colon)
        return true;
    const char *digit = colon + 1;
    if (!*digit)
        return false;
    for (; *digit; digit++) {
        if (*digit < '0' || *digit > '9' || *index > 9999)
            return false;
        *index = *index * 10 + (uint32_t)(*digit - '0');
    }
    return true;
}

static skim_status open_named(skim_runtime *runtime, const char *selector,
                              const skim_open_options *options, skim_device **device)
{
    size_t length;
    uint32_t index;
    if (!parse_name(selector, &length, &index))
        return skim_fail(
            &runtime->error, SKIM_INVALID,
            "\"%.64s\" is no device selector; use auto, a backend's name, or name:index", selector);
    for (uint32_t b = 0; b < runtime->backend_count; b++) {
        const skim_backend_record *record = &runtime->backends[b];
        if (strlen(record->name) != length || strncmp(record->name, selector, length) != 0)
            continue;
        if (record->device_count == 0)
            return skim_fail(&runtime->error, SKIM_NO_DEVICE, "no %s device: %s", record->name,
                             record->reason);
        if (index >= record->device_count)
            return skim_fail(&runtime->error, SKIM_NO_DEVICE,
                             "no device %s:%u; %s has %u (numbered from 0)", record->name, index,
                             record->name, record->device_count);
        return open_index(runtime, record, index, options, device);
    }
    return skim_fail(
        &runtime->error, SKIM_NO_DEVICE,
        "unknown device \"%.64s\"; use auto, cpu, cuda, vulkan, opencl, name:index or a UUID",
        selector);
}

skim_status skim_device_open(skim_runtime *runtime, const char *selector,
                             const skim_device_options *options, skim_device **device)
{
    skim_device_options taken = {.size_of = sizeof taken};
    if (!runtime)
        return SKIM_INVALID;
    if (!selector || !device)
        return skim_fail(&runtime->error, SKIM_INVALID, "selector and device must not be NULL");
    if (options && !skim_take(&taken, sizeof taken, options))
        return skim_fail(&runtime->error, SKIM_INVALID, "skim_device_options.size_of is wrong");

    skim_open_options open = {.disable = taken.disable, .threads = taken.threads};
    uint8_t uuid[16];
    if (strcmp(selector, "auto") == 0)
        return open_auto(runtime, &open, device);
    if (parse_uuid(selector, uuid))
        return open_uuid(runtime, NULL, uuid, &open, device);
    return open_named(runtime, selector, &open, device);
}

// The options of an open call into taken, which holds the defaults.
static skim_status take_options(skim_runtime *runtime, skim_device **device, const void *options,
                                void *taken, size_t size, const char *name)
{
    if (!runtime)
        return SKIM_INVALID;
    if (!device)
        return skim_fail(&runtime->error, SKIM_INVALID, "device must not be NULL");
    if (options && !skim_take(taken, size, options))
        return skim_fail(&runtime->error, SKIM_INVALID, "%s.size_of is wrong", name);
    return SKIM_OK;
}

skim_status skim_cpu_device_open(skim_runtime *runtime, const skim_cpu_options *options,
                                 skim_device **device)
{
    skim_cpu_options taken = {.size_of = sizeof taken};
    skim_status status =
        take_options(runtime, device, options, &taken, sizeof taken, "skim_cpu_options");
    if (status != SKIM_OK)
        return status;
    if (taken.pool.run && taken.pool.threads == 0)
        return skim_fail(&runtime->error, SKIM_INVALID, "a pool of 0 threads cannot run anything");

    skim_open_options open = {.disable = taken.disable, .threads = taken.threads, .cpu = &taken};
    return open_named(runtime, "cpu", &open, device);
}

// The selector of the device that the host's is, if it is one that was found.
static void name_imported(const skim_runtime *runtime, const skim_backend_record *record,
                          skim_device *device)
{
    static const uint8_t none[16];
    for (uint32_t i = 0; i < record->device_count; i++) {
        const skim_device_info *info = &runtime->infos[record->first_device + i];
        if (memcmp(info->uuid, device->info.uuid, sizeof info->uuid) == 0 &&
            memcmp(info->uuid, none, sizeof none) != 0) {
            memcpy(device->info.selector, info->selector, sizeof info->selector);
            return;
        }
    }
}

// A device of the host's, which the backend finds in its options.
static skim_status import_device(skim_runtime *runtime, const char *backend,
                                 const skim_open_options *options, skim_device **device)
{
    for (uint32_t b = 0; b < runtime->backend_count; b++) {
        const skim_backend_record *record = &runtime->backends[b];
        if (strcmp(record->name, backend) != 0 || !record->backend)
            continue;
        skim_status status = open_index(runtime, record, UINT32_MAX, options, device);
        if (status == SKIM_OK)
            name_imported(runtime, record, *device);
        return status;
    }
    return skim_fail(&runtime->error, SKIM_NO_DEVICE, "this build of Skim has no %s backend",
                     backend);
}

// By a selector that is of one backend's devices; NULL: its first one. title is the backend's in
// words.
static skim_status open_selected(skim_runtime *runtime, const char *backend, const char *title,
                                 const char *selector, const skim_open_options *options,
                                 skim_device **device)
{
    uint8_t uuid[16];
    const size_t length = strlen(backend);
    if (!selector)
        selector = backend;
    if (parse_uuid(selector, uuid))
        return open_uuid(runtime, backend, uuid, options, device);
    if (strncmp(selector, backend, length) != 0 ||
        (selector[length] != '\0' && selector[length] != ':'))
        return skim_fail(&runtime->error, SKIM_INVALID,
                         "\"%.64s\" selects no %s device; use %s, %s:index or a UUID", selector,
                         title, backend, backend);
    return open_named(runtime, selector, options, device);
}

skim_status skim_cuda_device_open(skim_runtime *runtime, const skim_cuda_options *options,
                                  skim_device **device)
{
    skim_cuda_options taken = {.size_of = sizeof taken};
    skim_status status =
        take_options(runtime, device, options, &taken, sizeof taken, "skim_cuda_options");
    if (status == SKIM_OK)
        status = skim_cuda_options_check(&taken, &runtime->error);
    if (status != SKIM_OK)
        return status;
    skim_open_options open = {.disable = taken.disable, .cuda = &taken};
    return taken.context ? import_device(runtime, "cuda", &open, device)
                         : open_selected(runtime, "cuda", "CUDA", taken.selector, &open, device);
}

skim_status skim_vulkan_device_open(skim_runtime *runtime, const skim_vulkan_options *options,
                                    skim_device **device)
{
    skim_vulkan_options taken = {.size_of = sizeof taken};
    skim_status status =
        take_options(runtime, device, options, &taken, sizeof taken, "skim_vulkan_options");
    if (status == SKIM_OK)
        status = skim_vulkan_options_check(&taken, &runtime->error);
    if (status != SKIM_OK)
        return status;

    skim_open_options open = {.disable = taken.disable, .vulkan = &taken};
    if (taken.device)
        return import_device(runtime, "vulkan", &open, device);
    return open_selected(runtime, "vulkan", "Vulkan", taken.selector, &open, device);
}

skim_status skim_opencl_device_open(skim_runtime *runtime, const skim_opencl_options *options,
                                    skim_device **device)
{
    skim_opencl_options taken = {.size_of = sizeof taken};
    skim_status status =
        take_options(runtime, device, options, &taken, sizeof taken, "skim_opencl_options");
    if (status == SKIM_OK)
        status = skim_opencl_options_check(&taken, &runtime->error);
    if (status != SKIM_OK)
        return status;
    skim_open_options open = {.disable = taken.disable, .opencl = &taken};
    if (taken.context)
        return import_device(runtime, "opencl", &open, device);
    return open_selected(runtime, "opencl", "OpenCL", taken.selector, &open, device);
}

void skim_device_close(skim_device *device)
{
    if (!device)
        return;
    const skim_host *host = device->host;
    device->backend->close(device);
    skim_error_deinit(&device->error);
    skim_release(host, device, sizeof *device);
}

skim_status skim_device_get_info(const skim_device *device, skim_device_info *info)
{
    if (!device)
        return SKIM_INVALID;
    skim_device_info filled = device->info;
    filled.memory_available = device->backend->memory_available(device);
    return skim_give(info, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

skim_status skim_device_get_limits(const skim_device *device, skim_limits *limits)
{
    if (!device)
        return SKIM_INVALID;
    skim_limits filled = device->limits;
    return skim_give(limits, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

size_t skim_device_error(const skim_device *device, char *text, size_t size)
{
    return device ? skim_error_copy(&device->error, text, size) : 0;
}
