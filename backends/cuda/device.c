#include "backends/cuda/cuda.h"

#include "backends/cuda/queue.h"

#include <stdio.h>
#include <string.h>

enum {
    DEVICES_MAX = 64,
    CAPABILITY_MIN = 75,
    TENSOR_MIN = 80,
    ROWS_MAX = 65535,
    PAGES_MAX = 1 << 22
};

// ---- errors

// Nothing that the context holds can be used after these.
bool skim_cuda_is_lost(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_CONTAINED:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_TENSOR_MEMORY_LEAK:
    case CUDA_ERROR_EXTERNAL_DEVICE:
        return true;
    default:
        return false;
    }
}

skim_status skim_cuda_fail(skim_cuda_device *device, skim_error *error, CUresult result,
                           const char *call)
{
    const char *name = skim_cuda_result_name(&device->cuda, result);
    if (skim_cuda_is_lost(result)) {
        atomic_store(&device->base->lost, true);
        return skim_fail(error, SKIM_DEVICE_LOST, "%s: the device is lost (%s)", call, name);
    }
    if (result == CUDA_ERROR_OUT_OF_MEMORY)
        return skim_fail(error, SKIM_NO_MEMORY, "%s: out of memory (%s)", call, name);
    return skim_fail(error, SKIM_FAILED, "%s failed with %s", call, name);
}

skim_status skim_cuda_enter(skim_cuda_device *device, skim_error *error)
{
    CUresult result = device->cuda.CtxPushCurrent(device->context);
    if (result == CUDA_SUCCESS)
        return SKIM_OK;
    // Nothing can be waited for or released in it any more.
    atomic_store(&device->base->lost, true);
    return skim_fail(error, SKIM_DEVICE_LOST, "cuCtxPushCurrent: the device is lost (%s)",
                     skim_cuda_result_name(&device->cuda, result));
}

void skim_cuda_leave(skim_cuda_device *device)
{
    CUcontext popped;
    device->cuda.CtxPopCurrent(&popped);
}

// ---- what is there

static int attribute(const skim_cuda_functions *cuda, CUdevice device, CUdevice_attribute which)
{
    int value = 0;
    return cuda->DeviceGetAttribute(&value, which, device) == CUDA_SUCCESS ? value : 0;
}

static int capability_of(const skim_cuda_functions *cuda, CUdevice device)
{
    return 10 * attribute(cuda, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
           attribute(cuda, device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

static void name_of(const skim_cuda_functions *cuda, CUdevice device, char *name, int size)
{
    if (cuda->DeviceGetName(name, size, device) != CUDA_SUCCESS)
        snprintf(name, (size_t)size, "an NVIDIA GPU");
    name[size - 1] = '\0';
}

// False, with a reason, if the device will not do.
static bool is_usable(const skim_cuda_functions *cuda, CUdevice device, char *reason, size_t size)
{
    char name[100];
    name_of(cuda, device, name, sizeof name);
    const int capability = capability_of(cuda, device);
    if (capability < CAPABILITY_MIN) {
        snprintf(reason, size,
                 "%s cannot be used: it is of compute capability %d.%d; %d.%d is needed", name,
                 capability / 10, capability % 10, CAPABILITY_MIN / 10, CAPABILITY_MIN % 10);
        return false;
    }
    if (attribute(cuda, device, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE) == CU_COMPUTEMODE_PROHIBITED) {
        snprintf(reason, size, "%s cannot be used: its compute mode is prohibited", name);
        return false;
    }
    return true;
}

// The devices that will do; returns how many. Without any, reason says why.
static uint32_t list_devices(const skim_cuda_functions *cuda, CUdevice *devices, char *reason,
                             size_t size)
{
    int count = 0;
    uint32_t kept = 0;
    CUresult result = cuda->DeviceGetCount(&count);
    if (result != CUDA_SUCCESS) {
        snprintf(reason, size, "cuDeviceGetCount gives %s", skim_cuda_result_name(cuda, result));
        return 0;
    }
    snprintf(reason, size, "the NVIDIA driver knows no GPU");
    for (int i = 0; i < count && kept < DEVICES_MAX; i++) {
        CUdevice device;
        result = cuda->DeviceGet(&device, i);
        if (result != CUDA_SUCCESS)
            snprintf(reason, size, "cuDeviceGet gives %s", skim_cuda_result_name(cuda, result));
        else if (is_usable(cuda, device, reason, size))
            devices[kept++] = device;
    }
    return kept;
}

static void fill_info(const skim_cuda_functions *cuda, CUdevice device, uint32_t index,
                      skim_device_info *info)
{
    const size_t size_of = info->size_of;
    memset(info, 0, sizeof *info);
    info->size_of = size_of;
    snprintf(info->selector, sizeof info->selector, "cuda:%u", index);
    snprintf(info->backend, sizeof info->backend, "cuda");
    name_of(cuda, device, info->name, (int)sizeof info->name);
    int version = 0;
    cuda->DriverGetVersion(&version);
    snprintf(info->driver, sizeof info->driver, "NVIDIA, CUDA %d.%d", version / 1000,
             version % 1000 / 10);
    info->type = attribute(cuda, device, CU_DEVICE_ATTRIBUTE_INTEGRATED) ? SKIM_DEVICE_INTEGRATED
                                                                         : SKIM_DEVICE_DISCRETE;
    CUuuid uuid;
    if (cuda->DeviceGetUuid(&uuid, device) == CUDA_SUCCESS)
        memcpy(info->uuid, uuid.bytes, sizeof info->uuid);
    size_t bytes = 0;
    if (cuda->DeviceTotalMem(&bytes, device) == CUDA_SUCCESS)
        info->memory_total = info->memory_available = bytes;
}

static uint32_t enumerate(const skim_host *host, skim_device_info *infos, uint32_t capacity,
                          char *reason, size_t reason_size)
{
    (void)host;
    skim_cuda_functions cuda;
    CUdevice devices[DEVICES_MAX];
    if (!skim_cuda_functions_open(&cuda, reason, reason_size))
        return 0;
    uint32_t count = list_devices(&cuda, devices, reason, reason_size);
    count = count < capacity ? count : capacity;
    for (uint32_t i = 0; i < count; i++)
        fill_info(&cuda, devices[i], i, &infos[i]);
    skim_cuda_functions_close(&cuda);
    return count;
}

// ---- opening

static void fill_limits(skim_limits *limits, uint64_t features, uint64_t memory)
{
    *limits = skim_gpu_limits();
    limits->features = features;
    limits->rows_max = ROWS_MAX;
    limits->pages_max = PAGES_MAX;
    limits->buffer_size_max = memory > 0 ? memory : UINT64_MAX; // where the driver does not tell
    limits->timestamps = SKIM_GPU_MARKS;
}

static void destroy_device(skim_cuda_device *device)
{
    const skim_host *host = device->base->host;
    const bool entered = device->context && skim_cuda_enter(device, NULL) == SKIM_OK;
    skim_cuda_kernels_deinit(device);
    if (entered)
        skim_cuda_leave(device);
    if (device->retained)
        device->cuda.DevicePrimaryCtxRelease(device->device);
    skim_cuda_functions_close(&device->cuda);
    skim_mutex_deinit(&device->kernels.mutex);
    skim_release(host, device, sizeof *device);
}

static skim_status open_driver(skim_cuda_device *device, uint32_t index, skim_error *error)
{
    char reason[256] = "";
    CUdevice devices[DEVICES_MAX];
    if (!skim_cuda_functions_open(&device->cuda, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "%s", reason);
    if (index >= list_devices(&device->cuda, devices, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "the device is there no longer: %s", reason);
    device->device = devices[index];
    CUresult result = device->cuda.DevicePrimaryCtxRetain(&device->context, device->device);
    if (result != CUDA_SUCCESS) {
        device->context = NULL; // a call that failed may have written anything
        return skim_cuda_fail(device, error, result, "cuDevicePrimaryCtxRetain");
    }
    device->retained = true;
    return SKIM_OK;
}

// The host's context, and which of the devices it is on.
static skim_status import(skim_cuda_device *device, struct CUctx_st *context, skim_error *error)
{
    char reason[256] = "";
    if (!skim_cuda_functions_open(&device->cuda, reason, sizeof reason))
        return skim_fail(error, SKIM_NO_DEVICE, "%s", reason);
    device->context = context;
    skim_status status = skim_cuda_enter(device, error);
    if (status != SKIM_OK)
        return status;
    CUresult result = device->cuda.CtxGetDevice(&device->device);
    skim_cuda_leave(device);
    if (result != CUDA_SUCCESS)
        return skim_cuda_fail(device, error, result, "cuCtxGetDevice");
    if (!is_usable(&device->cuda, device->device, reason, sizeof reason))
        return skim_fail(error, SKIM_UNSUPPORTED, "%s", reason);
    return SKIM_OK;
}

static skim_status open_device(skim_device *base, uint32_t index, const skim_open_options *options,
                               skim_error *error)
{
    skim_cuda_device *device = skim_allocate(base->host, sizeof *device);
    if (!device)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a CUDA device");
    device->base = base;
    base->impl = device;
    skim_mutex_init(&device->kernels.mutex);
    struct CUctx_st *context = options->cuda ? options->cuda->context : NULL;
    skim_status status =
        context ? import(device, context, error) : open_driver(device, index, error);
    if (status == SKIM_OK) {
        fill_info(&device->cuda, device->device, index, &base->info);
        if (context) // selectors number what was found; the front knows whether this is among it
            memset(base->info.selector, 0, sizeof base->info.selector);
        const uint64_t features = capability_of(&device->cuda, device->device) >= TENSOR_MIN
                                      ? SKIM_FEATURE_WIDE | SKIM_FEATURE_TENSOR
                                      : SKIM_FEATURE_WIDE;
        fill_limits(&base->limits, features & ~options->disable, base->info.memory_total);
        status = skim_cuda_enter(device, error);
    }
    if (status == SKIM_OK) {
        status = skim_cuda_kernels_init(device, error);
        skim_cuda_leave(device);
    }
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

const skim_backend skim_backend_cuda = {
    .name = "cuda",
    .enumerate = enumerate,
    .open = open_device,
    .close = close_device,
    .memory_available = skim_cuda_memory_available,
    .buffer_create = skim_cuda_buffer_create,
    .buffer_destroy = skim_cuda_buffer_destroy,
    .buffer_wrap = skim_cuda_buffer_wrap_address,
    .buffer_address = skim_cuda_buffer_begin,
    .queue_create = skim_cuda_queue_open,
    .queue_destroy = skim_cuda_queue_close,
    .bounds_size = skim_gpu_bounds_size,
    .scratch_size = skim_cuda_scratch_size,
    .prepare = skim_cuda_queue_prepare,
    .upload = skim_cuda_record_upload,
    .download = skim_cuda_record_download,
    .copy = skim_cuda_record_copy,
    .zero = skim_cuda_record_zero,
    .mark = skim_cuda_record_mark,
    .append = skim_cuda_append,
    .estimate = skim_cuda_estimate,
    .select = skim_cuda_select,
    .attend = skim_cuda_attend,
    .submit = skim_cuda_queue_submit,
    .wait = skim_cuda_queue_wait,
    .discard = skim_cuda_queue_discard,
    .mark_time = skim_cuda_queue_mark_time,
    .semaphore = skim_cuda_queue_event,
};
