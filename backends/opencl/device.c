#include "backends/opencl/opencl.h"

#include "backends/opencl/queue.h"

#include <stdio.h>
#include <string.h>

enum {
    PLATFORMS_MAX = 16,
    LOCAL_MEMORY = 32768,
    PARAMETER_SIZE = 1024,
    CHUNK_SHIFT_MIN = 16,
    TEXT_MAX = 8192
};

// What is asked of a device, in one piece.
typedef struct found_device {
    cl_device_id handle;
    cl_platform_id platform;
    cl_bitfield type;
    cl_bool available, compiler, little_endian, unified;
    cl_uint compute_units;
    cl_ulong memory, allocation_max, local_memory;
    size_t threads, parameter_size;
    char name[128], driver[64], version[64], profile[32], platform_name[64];
    char extensions[TEXT_MAX];
} found_device;

skim_status skim_opencl_fail(skim_device *device, skim_error *error, cl_int result,
                             const char *call)
{
    switch (result) {
    case CL_OUT_OF_HOST_MEMORY:
        return skim_fail(error, SKIM_NO_MEMORY, "%s: out of host memory", call);
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_RESOURCES:
        return skim_fail(error, SKIM_NO_MEMORY, "%s: out of device memory or resources", call);
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE: // of a queue that was valid
        if (device)
            atomic_store(&device->lost, true);
        return skim_fail(error, SKIM_DEVICE_LOST, "%s: the device is lost", call);
    default:
        return skim_fail(error, SKIM_FAILED, "%s failed with OpenCL's error %d", call, (int)result);
    }
}

// ---- what is there

static void ask(const skim_opencl_functions *cl, cl_device_id device, cl_uint what, void *value,
                size_t size)
{
    // What cannot be told is nothing.
    if (cl->GetDeviceInfo(device, what, size, value, NULL) != CL_SUCCESS)
        memset(value, 0, size);
}

static void ask_text(const skim_opencl_functions *cl, cl_device_id device, cl_uint what, char *text,
                     size_t size)
{
    char whole[TEXT_MAX]; // a driver tells all or nothing
    ask(cl, device, what, whole, sizeof whole);
    whole[sizeof whole - 1] = '\0';
    snprintf(text, size, "%s", whole);
}

static void query(const skim_opencl_functions *cl, cl_platform_id platform, cl_device_id handle,
                  found_device *found)
{
    memset(found, 0, sizeof *found);
    found->handle = handle;
    found->platform = platform;
    ask(cl, handle, CL_DEVICE_TYPE, &found->type, sizeof found->type);
    ask(cl, handle, CL_DEVICE_AVAILABLE, &found->available, sizeof found->available);
    ask(cl, handle, CL_DEVICE_COMPILER_AVAILABLE, &found->compiler, sizeof found->compiler);
    ask(cl, handle, CL_DEVICE_ENDIAN_LITTLE, &found->little_endian, sizeof found->little_endian);
    ask(cl, handle, CL_DEVICE_HOST_UNIFIED_MEMORY, &found->unified, sizeof found->unified);
    ask(cl, handle, CL_DEVICE_MAX_COMPUTE_UNITS, &found->compute_units,
        sizeof found->compute_units);
    ask(cl, handle, CL_DEVICE_GLOBAL_MEM_SIZE, &found->memory, sizeof found->memory);
    ask(cl, handle, CL_DEVICE_MAX_MEM_ALLOC_SIZE, &found->allocation_max,
        sizeof found->allocation_max);
    ask(cl, handle, CL_DEVICE_LOCAL_MEM_SIZE, &found->local_memory, sizeof found->local_memory);
    ask(cl, handle, CL_DEVICE_MAX_WORK_GROUP_SIZE, &found->threads, sizeof found->threads);
    ask(cl, handle, CL_DEVICE_MAX_PARAMETER_SIZE, &found->parameter_size,
        sizeof found->parameter_size);
    ask_text(cl, handle, CL_DEVICE_NAME, found->name, sizeof found->name);
    ask_text(cl, handle, CL_DRIVER_VERSION, found->driver, sizeof found->driver);
    ask_text(cl, handle, CL_DEVICE_VERSION, found->version, sizeof found->version);
    ask_text(cl, handle, CL_DEVICE_PROFILE, found->profile, sizeof found->profile);
    ask_text(cl, handle, CL_DEVICE_EXTENSIONS, found->extensions, sizeof found->extensions);
    if (cl->GetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof found->platform_name,
                            found->platform_name, NULL) != CL_SUCCESS)
        found->platform_name[0] = '\0';
    found->platform_name[sizeof found->platform_name - 1] = '\0';
}

static bool is_cpu(const found_device *found)
{
    return (found->type & CL_DEVICE_TYPE_CPU) != 0;
}

// NULL if the device will do, else why not.
static const char *find_fault(const found_device *found)
{
    unsigned major = 0, minor = 0;
    if (sscanf(found->version, "OpenCL %u.%u", &major, &minor) != 2 || major * 10 + minor < 12)
        return "its driver's OpenCL is older than 1.2";
    if (strcmp(found->profile, "FULL_PROFILE") != 0)
        return "its driver has only the embedded profile";
    if (!found->available)
        return "its driver says that it is not available";
    if (!found->compiler)
        return "its driver has no compiler";
    if (!found->little_endian)
        return "it is big-endian";
    if (found->local_memory < LOCAL_MEMORY)
        return "it has less than 32 KiB of local memory";
    if (!is_cpu(found) && found->threads < SKIM_OPENCL_THREADS)
        return "its work-groups have fewer than 64 work-items";
    if (found->parameter_size < PARAMETER_SIZE)
        return "its kernels take fewer than 1024 bytes of arguments";
    if (found->allocation_max < (uint64_t)1 << CHUNK_SHIFT_MIN)
        return "it cannot allocate 64 KiB in one piece";
    return NULL;
}

static skim_device_type type_of(const found_device *found)
{
    if (is_cpu(found))
        return SKIM_DEVICE_SOFTWARE;
    if (!(found->type & CL_DEVICE_TYPE_GPU))
        return SKIM_DEVICE_OTHER;
    return found->unified ? SKIM_DEVICE_INTEGRATED : SKIM_DEVICE_DISCRETE;
}

// A handle, and the platform that it is of.
typedef struct listed_device {
    cl_device_id handle;
    cl_platform_id platform;
} listed_device;

// Every device of every platform.
static uint32_t list_all(const skim_opencl_functions *cl, listed_device *devices, char *reason,
                         size_t reason_size)
{
    cl_platform_id platforms[PLATFORMS_MAX];
    cl_uint platform_count = 0;
    cl_int result = cl->GetPlatformIDs(PLATFORMS_MAX, platforms, &platform_count);
    if (result == CL_PLATFORM_NOT_FOUND_KHR || (result == CL_SUCCESS && platform_count == 0)) {
        snprintf(reason, reason_size, "no OpenCL driver is installed");
        return 0;
    }
    if (result != CL_SUCCESS) {
        snprintf(reason, reason_size, "clGetPlatformIDs failed with %d", (int)result);
        return 0;
    }
    platform_count = platform_count < PLATFORMS_MAX ? platform_count : PLATFORMS_MAX;
    snprintf(reason, reason_size, "the OpenCL drivers know no device");
    uint32_t count = 0;
    for (cl_uint p = 0; p < platform_count; p++) {
        cl_device_id handles[SKIM_OPENCL_DEVICES_MAX];
        const uint32_t room = SKIM_OPENCL_DEVICES_MAX - count;
        cl_uint of_platform = 0;
        if (room == 0)
            break;
        result = cl->GetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, room, handles, &of_platform);
        if (result != CL_SUCCESS) {
            if (result != CL_DEVICE_NOT_FOUND)
                snprintf(reason, reason_size, "clGetDeviceIDs failed with %d", (int)result);
            continue;
        }
        for (cl_uint i = 0; i < of_platform && i < room; i++)
            devices[count++] = (listed_device){handles[i], platforms[p]};
    }
    return count;
}

// The devices that will do, real ones first; returns how many. Without any, reason says why.
static uint32_t list_devices(const skim_opencl_functions *cl, listed_device *devices, char *reason,
                             size_t reason_size)
{
    listed_device all[SKIM_OPENCL_DEVICES_MAX];
    const uint32_t count = list_all(cl, all, reason, reason_size);
    uint32_t kept = 0;
    for (int software = 0; software < 2; software++) {
        for (uint32_t i = 0; i < count; i++) {
            found_device found;
            query(cl, all[i].platform, all[i].handle, &found);
            if ((type_of(&found) == SKIM_DEVICE_SOFTWARE) != software)
                continue;
            const char *fault = find_fault(&found);
            if (fault)
                snprintf(reason, reason_size, "%.100s cannot be used: %s", found.name, fault);
            else
                devices[kept++] = all[i];
        }
    }
    return kept;
}

static void fill_info(const skim_opencl_functions *cl, const found_device *found, uint32_t index,
                      skim_device_info *info)
{
    size_t size_of = info->size_of;
    memset(info, 0, sizeof *info);
    info->size_of = size_of;
    snprintf(info->selector, sizeof info->selector, "opencl:%u", index);
    snprintf(info->backend, sizeof info->backend, "opencl");
    snprintf(info->name, sizeof info->name, "%s", found->name);
    snprintf(info->driver, sizeof info->driver, "%.60s %.60s", found->platform_name, found->driver);
    info->type = type_of(found);
    if (strstr(found->extensions, "cl_khr_device_uuid"))
        ask(cl, found->handle, CL_DEVICE_UUID_KHR, info->uuid, sizeof info->uuid);
    info->memory_total = found->memory;
    info->memory_available = found->memory;
}

static uint32_t enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                          char *reason, size_t reason_size)
{
    (void)host;
    void *library;
    skim_opencl_functions cl;
    listed_device devices[SKIM_OPENCL_DEVICES_MAX];
    if (!skim_opencl_library_open(&library, &cl, reason, reason_size))
        return 0;
    uint32_t count = list_devices(&cl, devices, reason, reason_size);
    count = count < capacity ? count : capacity;
    for (uint32_t i = 0; i < count; i++) {
        found_device found;
        query(&cl, devices[i].platform, devices[i].handle, &found);
        fill_info(&cl, &found, i, &infos[i]);
    }
    skim_opencl_library_close(library);
    return count;
}

// ---- opening

static bool has_extension(const found_device *found, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = found->extensions; (at = strstr(at, name)); at += length)
        if ((at == found->extensions || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

// Fast paths, as far as the driver has them and nobody turned them off.
static uint64_t find_features(const found_device *found, uint64_t disable)
{
    uint64_t features = SKIM_FEATURE_WIDE;
    if (is_cpu(found))
        features |= SKIM_FEATURE_SERIAL;
    if (has_extension(found, "cl_khr_fp16"))
        features |= SKIM_FEATURE_FP16;
    // A CPU's device may have small work-groups only.
    if (found->threads < SKIM_OPENCL_THREADS)
        disable &= ~SKIM_FEATURE_SERIAL;
    return features & ~disable;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void fill_device(skim_opencl_device *device, const found_device *found, uint64_t features,
                        uint64_t allocation_max)
{
    device->compute_units = found->compute_units > 0 ? found->compute_units : 1;
    device->threads = features & SKIM_FEATURE_SERIAL ? 1 : SKIM_OPENCL_THREADS;
    device->allocation_max = found->allocation_max;
    // Pieces are powers of two, so that a shift finds the piece of a byte.
    const uint64_t most =
        allocation_max > 0 ? smaller(allocation_max, found->allocation_max) : found->allocation_max;
    device->chunk_shift = CHUNK_SHIFT_MIN;
    while (device->chunk_shift < 62 && (uint64_t)2 << device->chunk_shift <= most)
        device->chunk_shift++;
}

static void fill_limits(skim_limits *limits, const skim_opencl_device *device, uint64_t features,
                        uint64_t memory)
{
    const uint64_t split = (uint64_t)SKIM_OPENCL_PIECES_MAX << device->chunk_shift;
    // What is in one piece is not limited by the host's allocation_max.
    const uint64_t most = split > device->allocation_max ? split : device->allocation_max;
    *limits = skim_gpu_limits();
    limits->features = features;
    limits->rows_max = 65535;
    limits->pages_max = (uint32_t)1 << 22;
    limits->buffer_size_max = smaller(memory, most);
    limits->timestamps = device->profiles ? SKIM_GPU_MARKS : 0;
}

static skim_status create_context(skim_opencl_device *device, const found_device *found,
                                  skim_error *error)
{
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)found->platform, 0};
    cl_int result = CL_SUCCESS;
    cl_context context =
        device->cl.CreateContext(properties, 1, &device->handle, NULL, NULL, &result);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(NULL, error, result, "clCreateContext");
    device->context = context;
    return SKIM_OK;
}

static skim_status create_objects(skim_opencl_device *device, skim_error *error)
{
    cl_int result = CL_SUCCESS;
    cl_command_queue service =
        device->cl.CreateCommandQueue(device->context, device->handle, 0, &result);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(NULL, error, result, "clCreateCommandQueue");
    device->service = service;
    return skim_opencl_piece_create(device->base, 64, error, &device->nothing);
}

static void destroy_device(skim_opencl_device *device)
{
    const skim_host *host = device->base->host;
    skim_opencl_programs_deinit(device);
    skim_opencl_piece_destroy(device, device->nothing, 64);
    if (device->service)
        device->cl.ReleaseCommandQueue(device->service);
    if (device->shared)
        device->cl.ReleaseCommandQueue(device->shared);
    if (device->context)
        device->cl.ReleaseContext(device->context);
    skim_opencl_library_close(device->library);
    skim_mutex_deinit(&device->service_mutex);
    skim_mutex_deinit(&device->programs.mutex);
    skim_release(host, device, sizeof *device);
}

// The device that had the index.
static skim_status find_device(skim_opencl_device *device, uint32_t index, found_device *found,
                               skim_error *error)
{
    char reason[256] = "";
    listed_device devices[SKIM_OPENCL_DEVICES_MAX];
    if (index >= list_devices(&device->cl, devices, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "the device is there no longer: %s", reason);
    query(&device->cl, devices[index].platform, devices[index].handle, found);
    const char *fault = find_fault(found); // a driver may have changed its mind
    if (fault)
        return skim_fail(error, SKIM_NO_DEVICE, "the device cannot be used: %s", fault);
    device->handle = found->handle;
    device->profiles = true;
    return SKIM_OK;
}

// The host's, which may be one that nobody would list.
static skim_status import_device(skim_opencl_device *device, const skim_opencl_options *options,
                                 found_device *found, skim_error *error)
{
    cl_platform_id platform = NULL;
    device->profiles = true; // of queues of our own
    skim_status status = skim_opencl_import(device, options, error);
    if (status != SKIM_OK)
        return status;
    ask(&device->cl, device->handle, CL_DEVICE_PLATFORM, &platform, sizeof platform);
    query(&device->cl, platform, device->handle, found);
    const char *fault = find_fault(found);
    return fault ? skim_fail(error, SKIM_UNSUPPORTED, "the host's device cannot be used: %s", fault)
                 : SKIM_OK;
}

static skim_status open_found(skim_opencl_device *device, uint32_t index,
                              const skim_open_options *options, skim_error *error)
{
    skim_device *base = device->base;
    const skim_opencl_options *own = options->opencl;
    const bool imported = own && own->context;
    char reason[256] = "";
    found_device found;
    if (!skim_opencl_library_open(&device->library, &device->cl, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "%s", reason);
    skim_status status = imported ? import_device(device, own, &found, error)
                                  : find_device(device, index, &found, error);
    if (status != SKIM_OK)
        return status;
    const uint64_t features = find_features(&found, options->disable);
    fill_device(device, &found, features, own ? own->allocation_max : 0);
    fill_info(&device->cl, &found, index, &base->info);
    fill_limits(&base->limits, device, features, found.memory);
    if (imported) // selectors number what was found; the front knows whether this is among it
        memset(base->info.selector, 0, sizeof base->info.selector);
    else
        status = create_context(device, &found, error);
    return status == SKIM_OK ? create_objects(device, error) : status;
}

static skim_status open_device(skim_device *base, uint32_t index, const skim_open_options *options,
                               skim_error *error)
{
    skim_opencl_device *device = skim_allocate(base->host, sizeof *device);
    if (!device)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for an OpenCL device");
    device->base = base;
    base->impl = device;
    skim_mutex_init(&device->service_mutex);
    skim_mutex_init(&device->programs.mutex);
    skim_status status = open_found(device, index, options, error);
    if (status != SKIM_OK) {
        destroy_device(device);
        base->impl = NULL;
    }
    return status;
}

static void close_device(skim_device *base)
{
    if (base->impl)
        destroy_device(base->impl);
    base->impl = NULL;
}

const skim_backend skim_backend_opencl = {
    .name = "opencl",
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .memory_available = skim_opencl_memory_available,
    .buffer_create = skim_opencl_buffer_create,
    .buffer_destroy = skim_opencl_buffer_destroy,
    .buffer_wrap = skim_opencl_buffer_wrap_handle,
    .queue_create = skim_opencl_queue_create,
    .queue_destroy = skim_opencl_queue_destroy,
    .bounds_size = skim_gpu_bounds_size,
    .scratch_size = skim_opencl_scratch_size,
    .prepare = skim_opencl_queue_prepare,
    .upload = skim_opencl_record_upload,
    .download = skim_opencl_record_download,
    .copy = skim_opencl_record_copy,
    .zero = skim_opencl_record_zero,
    .mark = skim_opencl_record_mark,
    .append = skim_opencl_append,
    .estimate = skim_opencl_estimate,
    .select = skim_opencl_select,
    .attend = skim_opencl_attend,
    .submit = skim_opencl_queue_submit,
    .wait = skim_opencl_queue_wait,
    .discard = skim_opencl_queue_discard,
    .mark_time = skim_opencl_queue_mark_time,
    .semaphore = skim_opencl_queue_wait_for,
    .event = skim_opencl_queue_event,
};
