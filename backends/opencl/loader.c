#include "backends/opencl/loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#if defined(__APPLE__)
static const char *const names[] = {"/System/Library/Frameworks/OpenCL.framework/OpenCL"};
#else
static const char *const names[] = {"libOpenCL.so.1"};
#endif

bool skim_opencl_library_open(void **library, skim_opencl_functions *functions, char *reason,
                              size_t reason_size)
{
    // Drivers have threads, and handlers that run at exit: once loaded they stay.
    *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !*library; i++)
        *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!*library) {
        snprintf(reason, reason_size, "the OpenCL loader (%s) was not found", names[0]);
        return false;
    }
    // A pointer from dlsym may be a function on POSIX, which C itself does not promise.
    void *symbol;
#define FILL(name, result, arguments)                                                              \
    symbol = dlsym(*library, "cl" #name);                                                          \
    memcpy(&functions->name, &symbol, sizeof symbol);                                              \
    if (!symbol) {                                                                                 \
        snprintf(reason, reason_size, "the OpenCL loader has no cl" #name " (OpenCL 1.2)");        \
        skim_opencl_library_close(*library);                                                       \
        *library = NULL;                                                                           \
        return false;                                                                              \
    }
    SKIM_OPENCL_FUNCTIONS(FILL)
#undef FILL
    return true;
}

void skim_opencl_library_close(void *library)
{
    if (library)
        dlclose(library);
}
