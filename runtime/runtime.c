#include "runtime/runtime.h"

#include "runtime/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const skim_registration registrations[] = {
#ifdef SKIM_HAVE_CUDA
    {"cuda", &skim_backend_cuda},
#else
    {"cuda", NULL},
#endif
#ifdef SKIM_HAVE_VULKAN
    {"vulkan", &skim_backend_vulkan},
#else
    {"vulkan", NULL},
#endif
#ifdef SKIM_HAVE_OPENCL
    {"opencl", &skim_backend_opencl},
#else
    {"opencl", NULL},
#endif
    {"cpu", &skim_backend_cpu},
};

static void *default_allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    void *memory = NULL;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void default_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)size;
    (void)alignment;
    free(memory);
}

static void enumerate_backend(skim_runtime *runtime, const skim_registration *registration)
{
    skim_backend_record *record = &runtime->backends[runtime->backend_count++];
    record->name = registration->name;
    record->backend = registration->backend;
    record->first_device = runtime->device_count;
    if (!record->backend) {
        snprintf(record->reason, sizeof record->reason, "this build of Skim has no %s backend",
                 record->name);
        return;
    }
    uint32_t room = SKIM_DEVICES_MAX - runtime->device_count;
    record->device_count =
        record->backend->enumerate(&runtime->host, runtime->infos + runtime->device_count, room,
                                   record->reason, sizeof record->reason);
    runtime->device_count += record->device_count;
}

skim_status skim_runtime_create_with(const skim_runtime_options *options,
                                     const skim_registration *list, uint32_t count,
                                     skim_runtime **runtime)
{
    skim_runtime_options taken = {.size_of = sizeof taken};
    if (!runtime || (options && !skim_take(&taken, sizeof taken, options)))
        return SKIM_INVALID;
    if (!taken.allocator.allocate != !taken.allocator.release ||
        !taken.store.load != !taken.store.save)
        return SKIM_INVALID;

    skim_host host = {.allocator = taken.allocator, .log = taken.log, .store = taken.store};
    if (!host.allocator.allocate)
        host.allocator = (skim_allocator){default_allocate, default_release, NULL};
    skim_runtime *made = skim_allocate(&host, sizeof *made);
    if (!made)
        return SKIM_NO_MEMORY;
    made->host = host;
    skim_error_init(&made->error);
    for (uint32_t i = 0; i < count && i < SKIM_BACKENDS_MAX; i++)
        enumerate_backend(made, &list[i]);
    *runtime = made;
    return SKIM_OK;
}

skim_status skim_runtime_create(const skim_runtime_options *options, skim_runtime **runtime)
{
    return skim_runtime_create_with(options, registrations,
                                    sizeof registrations / sizeof *registrations, runtime);
}

void skim_runtime_destroy(skim_runtime *runtime)
{
    if (!runtime)
        return;
    skim_error_deinit(&runtime->error);
    skim_host host = runtime->host;
    skim_release(&host, runtime, sizeof *runtime);
}

size_t skim_runtime_error(const skim_runtime *runtime, char *text, size_t size)
{
    return runtime ? skim_error_copy(&runtime->error, text, size) : 0;
}

uint32_t skim_runtime_backend_count(const skim_runtime *runtime)
{
    return runtime ? runtime->backend_count : 0;
}

skim_status skim_runtime_backend_info(const skim_runtime *runtime, uint32_t index,
                                      skim_backend_info *info)
{
    if (!runtime || index >= runtime->backend_count)
        return SKIM_INVALID;
    const skim_backend_record *record = &runtime->backends[index];
    skim_backend_info filled = {
        .name = record->name, .device_count = record->device_count, .reason = record->reason};
    return skim_give(info, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

uint32_t skim_runtime_device_count(const skim_runtime *runtime)
{
    return runtime ? runtime->device_count : 0;
}

skim_status skim_runtime_device_info(const skim_runtime *runtime, uint32_t index,
                                     skim_device_info *info)
{
    if (!runtime || index >= runtime->device_count)
        return SKIM_INVALID;
    skim_device_info filled = runtime->infos[index];
    return skim_give(info, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}
