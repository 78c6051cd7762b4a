#include "backends/cuda/loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#if defined(_WIN32)
static const char *const names[] = {"nvcuda.dll"};
#else
static const char *const names[] = {"libcuda.so.1"};
#endif

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

static bool fail(char *reason, size_t size, const char *text)
{
    snprintf(reason, size, "%s", text);
    return false;
}

// A driver of before names its functions otherwise: its age is what there is to say about it.
static bool check_version(skim_cuda_functions *cuda, char *reason, size_t size)
{
    void *symbol = dlsym(cuda->library, "cuDriverGetVersion");
    memcpy(&cuda->DriverGetVersion, &symbol, sizeof symbol);
    int version = 0;
    if (!symbol || cuda->DriverGetVersion(&version) != CUDA_SUCCESS)
        return fail(reason, size, "the NVIDIA driver does not tell its version");
    if (version >= SKIM_CUDA_DRIVER_MIN)
        return true;
    snprintf(reason, size, "the NVIDIA driver is of CUDA %d.%d; %d.%d is needed: update it",
             version / 1000, version % 1000 / 10, SKIM_CUDA_DRIVER_MIN / 1000,
             SKIM_CUDA_DRIVER_MIN % 1000 / 10);
    return false;
}

static bool fill(skim_cuda_functions *cuda, char *reason, size_t size)
{
    // A pointer from dlsym may be a function on POSIX, which C itself does not promise.
#define FILL(name)                                                                                 \
    {                                                                                              \
        void *symbol = dlsym(cuda->library, TEXT(cu##name));                                       \
        if (!symbol)                                                                               \
            return fail(reason, size, "the NVIDIA driver has no " TEXT(cu##name));                 \
        memcpy(&cuda->name, &symbol, sizeof symbol);                                               \
    }
    SKIM_CUDA_FUNCTIONS(FILL)
#undef FILL
    return true;
}

static bool initialise(skim_cuda_functions *cuda, char *reason, size_t size)
{
    CUresult result = cuda->Init(0);
    if (result == CUDA_SUCCESS)
        return true;
    if (result == CUDA_ERROR_NO_DEVICE)
        return fail(reason, size, "the NVIDIA driver knows no GPU");
    snprintf(reason, size, "the NVIDIA driver does not start: cuInit gives %s",
             skim_cuda_result_name(cuda, result));
    return false;
}

bool skim_cuda_functions_open(skim_cuda_functions *cuda, char *reason, size_t size)
{
    memset(cuda, 0, sizeof *cuda);
    // A driver that has started keeps threads and memory: it stays, whatever is closed.
    for (size_t i = 0; i < sizeof names / sizeof *names && !cuda->library; i++)
        cuda->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!cuda->library) {
        snprintf(reason, size, "the NVIDIA driver (%s) was not found", names[0]);
        return false;
    }
    if (check_version(cuda, reason, size) && fill(cuda, reason, size) &&
        initialise(cuda, reason, size))
        return true;
    skim_cuda_functions_close(cuda);
    return false;
}

void skim_cuda_functions_close(skim_cuda_functions *cuda)
{
    if (cuda->library)
        dlclose(cuda->library);
    memset(cuda, 0, sizeof *cuda);
}

const char *skim_cuda_result_name(const skim_cuda_functions *cuda, CUresult result)
{
    const char *name = NULL;
    if (cuda->GetErrorName(result, &name) != CUDA_SUCCESS || !name)
        return "an unknown error";
    return name;
}
