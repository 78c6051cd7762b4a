// The driver, opened at run time, and its functions in one table.
#ifndef SKIM_CUDA_LOADER_H
#define SKIM_CUDA_LOADER_H

#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

// The least version of the driver that takes what this nvcc compiled: that of its generation.
#define SKIM_CUDA_DRIVER_MIN (CUDA_VERSION / 1000 * 1000)

// Names as in cuda.h, which says by macros which version of each is meant.
#define SKIM_CUDA_FUNCTIONS(X)                                                                     \
    X(Init)                                                                                        \
    X(DriverGetVersion)                                                                            \
    X(DeviceGetCount)                                                                              \
    X(DeviceGet)                                                                                   \
    X(DeviceGetName)                                                                               \
    X(DeviceGetUuid)                                                                               \
    X(DeviceGetAttribute)                                                                          \
    X(DeviceTotalMem)                                                                              \
    X(DevicePrimaryCtxRetain)                                                                      \
    X(DevicePrimaryCtxRelease)                                                                     \
    X(CtxPushCurrent)                                                                              \
    X(CtxPopCurrent)                                                                               \
    X(CtxGetDevice)                                                                                \
    X(MemGetInfo)                                                                                  \
    X(MemAlloc)                                                                                    \
    X(MemFree)                                                                                     \
    X(MemHostAlloc)                                                                                \
    X(MemFreeHost)                                                                                 \
    X(MemcpyHtoDAsync)                                                                             \
    X(MemcpyDtoHAsync)                                                                             \
    X(MemcpyDtoDAsync)                                                                             \
    X(MemsetD8Async)                                                                               \
    X(StreamCreate)                                                                                \
    X(StreamDestroy)                                                                               \
    X(StreamSynchronize)                                                                           \
    X(StreamIsCapturing)                                                                           \
    X(StreamWaitEvent)                                                                             \
    X(EventCreate)                                                                                 \
    X(EventDestroy)                                                                                \
    X(EventRecord)                                                                                 \
    X(EventQuery)                                                                                  \
    X(EventSynchronize)                                                                            \
    X(EventElapsedTime)                                                                            \
    X(ModuleLoadData)                                                                              \
    X(ModuleUnload)                                                                                \
    X(ModuleGetFunction)                                                                           \
    X(ModuleGetGlobal)                                                                             \
    X(FuncGetAttribute)                                                                            \
    X(LaunchKernel)                                                                                \
    X(GetErrorName)

typedef struct skim_cuda_functions {
    void *library;
#define SKIM_CUDA_MEMBER(name) __typeof__(cu##name) *name;
    SKIM_CUDA_FUNCTIONS(SKIM_CUDA_MEMBER)
#undef SKIM_CUDA_MEMBER
} skim_cuda_functions;

// Opens and initialises the driver. False, with a reason in words, if there is none that will do.
bool skim_cuda_functions_open(skim_cuda_functions *cuda, char *reason, size_t size);
void skim_cuda_functions_close(skim_cuda_functions *cuda);

// The driver's name of a result, such as CUDA_ERROR_OUT_OF_MEMORY.
const char *skim_cuda_result_name(const skim_cuda_functions *cuda, CUresult result);

#endif
