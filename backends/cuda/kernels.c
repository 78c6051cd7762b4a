// The fatbin, and which of its kernels a shape takes.
#include "backends/cuda/cuda.h"

#include "runtime/mutant.h"

#include <assert.h>

// By the names that the lists of kernels use.
enum { F32 = SKIM_F32, F16 = SKIM_F16, BF16 = SKIM_BF16, I8 = 4 };
enum { MINMAX = SKIM_BOUNDS_MINMAX, MEANSTD = SKIM_BOUNDS_MEANSTD };

#define BOUNDS_OF(kind, column) (2 * ((column) == I8) + (kind))

typedef struct kernel_entry {
    skim_cuda_kernel kernel;
    const char *name;
} kernel_entry;

static const kernel_entry entries[] = {
#define APPEND(type, TYPE, bounds, BOUNDS, stored, COLUMN)                                         \
    {{SKIM_CUDA_APPEND, TYPE, 0, BOUNDS_OF(BOUNDS, COLUMN)},                                       \
     "skim_append_" #type "_" #bounds "_" #stored},
#define CENTRE(type, TYPE) {{SKIM_CUDA_CENTRE, TYPE, 0, 0}, "skim_centre_" #type},
#define ESTIMATE(column, COLUMN, dim, heads)                                                       \
    {{SKIM_CUDA_ESTIMATE, COLUMN, dim, heads}, "skim_estimate_" #column "_" #dim "_" #heads},
#define SELECT(launch)                                                                             \
    {{SKIM_CUDA_SELECT, SKIM_CUDA_SELECT_##launch, 0, 0}, "skim_select_" #launch},
#define ATTEND(type, TYPE, dim, heads)                                                             \
    {{SKIM_CUDA_ATTEND, TYPE, dim, heads}, "skim_attend_" #type "_" #dim "_" #heads},
#define PREFILL(type, TYPE, dim, heads)                                                            \
    {{SKIM_CUDA_PREFILL, TYPE, dim, 0}, "skim_prefill_" #type "_" #dim},
#define TENSOR(type, TYPE, dim)                                                                    \
    {{SKIM_CUDA_PREFILL_TENSOR, TYPE, dim, 0}, "skim_prefill_tensor_" #type "_" #dim},
    SKIM_CUDA_APPEND_KERNELS(APPEND) SKIM_CUDA_CENTRE_KERNELS(CENTRE)
        SKIM_CUDA_ESTIMATE_KERNELS(ESTIMATE) SKIM_CUDA_SELECT_KERNELS(SELECT)
            SKIM_CUDA_ATTEND_KERNELS(ATTEND) SKIM_CUDA_PREFILL_KERNELS(PREFILL)
                SKIM_CUDA_PREFILL_TENSOR_KERNELS(TENSOR)};

enum { ENTRIES = sizeof entries / sizeof *entries };

static _Alignas(16) const uint64_t fatbin[] = {
#ifdef SKIM_MUTANTS
#include "kernels_mutants.inc"
#else
#include "kernels.inc"
#endif
};

static uint32_t find_entry(const skim_cuda_kernel *kernel)
{
    for (uint32_t i = 0; i < ENTRIES; i++)
        if (entries[i].kernel.verb == kernel->verb && entries[i].kernel.type == kernel->type &&
            entries[i].kernel.dim == kernel->dim && entries[i].kernel.heads == kernel->heads)
            return i;
    return ENTRIES;
}

// ---- the module

#ifdef SKIM_MUTANTS
static CUresult set_mutant(skim_cuda_device *device)
{
    const uint32_t mutant = (uint32_t)skim_mutant;
    const skim_cuda_functions *cuda = &device->cuda;
    CUdeviceptr address = 0;
    size_t size = 0;
    CUresult result =
        cuda->ModuleGetGlobal(&address, &size, device->kernels.module, "skim_device_mutant");
    if (result == CUDA_SUCCESS)
        result = cuda->MemcpyHtoDAsync(address, &mutant, sizeof mutant, NULL);
    return result == CUDA_SUCCESS ? cuda->StreamSynchronize(NULL) : result;
}
#endif

skim_status skim_cuda_kernels_init(skim_cuda_device *device, skim_error *error)
{
    skim_cuda_kernels *kernels = &device->kernels;
    kernels->functions = skim_allocate(device->base->host, ENTRIES * sizeof *kernels->functions);
    if (!kernels->functions)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for the list of kernels");
    CUresult result = device->cuda.ModuleLoadData(&kernels->module, fatbin);
    if (result != CUDA_SUCCESS) {
        kernels->module = NULL; // a call that failed may have written anything
        return skim_cuda_fail(device, error, result, "cuModuleLoadData");
    }
#ifdef SKIM_MUTANTS
    result = set_mutant(device);
    if (result != CUDA_SUCCESS)
        return skim_cuda_fail(device, error, result, "setting the mutant");
#endif
    return SKIM_OK;
}

void skim_cuda_kernels_deinit(skim_cuda_device *device)
{
    skim_cuda_kernels *kernels = &device->kernels;
    if (kernels->module)
        device->cuda.ModuleUnload(kernels->module);
    kernels->module = NULL;
    skim_release(device->base->host, kernels->functions, ENTRIES * sizeof *kernels->functions);
    kernels->functions = NULL;
}

skim_status skim_cuda_kernel_get(skim_cuda_device *device, const skim_cuda_kernel *kernel,
                                 skim_error *error, CUfunction *function)
{
    const uint32_t entry = find_entry(kernel);
    assert(entry < ENTRIES);
    skim_cuda_kernels *kernels = &device->kernels;
    skim_mutex_lock(&kernels->mutex);
    *function = kernels->functions[entry];
    CUresult result = CUDA_SUCCESS;
    if (!*function) {
        int registers;
        result = device->cuda.ModuleGetFunction(function, kernels->module, entries[entry].name);
        // A kernel may be loaded when it is first asked about; not when it is first launched.
        if (result == CUDA_SUCCESS)
            result =
                device->cuda.FuncGetAttribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, *function);
        kernels->functions[entry] = result == CUDA_SUCCESS ? *function : NULL;
    }
    skim_mutex_unlock(&kernels->mutex);
    return result == CUDA_SUCCESS ? SKIM_OK
                                  : skim_cuda_fail(device, error, result, entries[entry].name);
}

// ---- which one

static uint32_t dim_of(const skim_cuda_device *device, uint32_t dim)
{
    const bool built = dim == 64 || dim == 128 || dim == 256;
    return built && device->base->limits.features & SKIM_FEATURE_WIDE ? dim : 0;
}

// The least that takes the whole group, as far as there is one.
static uint32_t heads_of(const skim_shape *shape, uint32_t most)
{
    const uint32_t group = shape->q_heads / shape->kv_heads;
    return group == 1 ? 1 : group <= 4 || most <= 4 ? 4 : most;
}

skim_cuda_kernel skim_cuda_append_kernel(const skim_shape *shape)
{
    return (skim_cuda_kernel){
        .verb = SKIM_CUDA_APPEND,
        .type = shape->type,
        .heads = BOUNDS_OF(shape->bounds, shape->bounds_type == SKIM_BOUNDS_I8 ? I8 : F32)};
}

skim_cuda_kernel skim_cuda_centre_kernel(const skim_shape *shape)
{
    return (skim_cuda_kernel){.verb = SKIM_CUDA_CENTRE, .type = shape->type};
}

skim_cuda_kernel skim_cuda_estimate_kernel(const skim_cuda_device *device, const skim_shape *shape)
{
    const uint32_t column = shape->bounds_type == SKIM_BOUNDS_I8 ? I8 : (uint32_t)shape->type;
    const uint32_t dim = dim_of(device, shape->key_dim);
    return (skim_cuda_kernel){
        .verb = SKIM_CUDA_ESTIMATE,
        .type = column,
        .dim = dim,
        .heads = heads_of(shape, dim == 0 || column == F32 ? 4 : 8),
    };
}

// The heads of a block share their list.
skim_cuda_kernel skim_cuda_attend_kernel(const skim_cuda_device *device, const skim_shape *shape,
                                         skim_select_mode select)
{
    const uint32_t dim = dim_of(device, shape->key_dim);
    return (skim_cuda_kernel){
        .verb = SKIM_CUDA_ATTEND,
        .type = shape->type,
        .dim = dim,
        .heads = select == SKIM_SELECT_HEAD
                     ? 1
                     : heads_of(shape, dim == 0 || shape->type == SKIM_F32 ? 4 : 8),
    };
}

skim_cuda_kernel skim_cuda_prefill_kernel(const skim_cuda_device *device, const skim_shape *shape)
{
    return (skim_cuda_kernel){
        .verb = SKIM_CUDA_PREFILL, .type = shape->type, .dim = dim_of(device, shape->key_dim)};
}

bool skim_cuda_has_tensor_kernel(const skim_cuda_device *device, const skim_shape *shape)
{
    return device->base->limits.features & SKIM_FEATURE_TENSOR && shape->type != SKIM_F32 &&
           (shape->key_dim == 64 || shape->key_dim == 128);
}

skim_cuda_kernel skim_cuda_tensor_kernel(const skim_shape *shape)
{
    return (skim_cuda_kernel){
        .verb = SKIM_CUDA_PREFILL_TENSOR, .type = shape->type, .dim = shape->key_dim};
}
