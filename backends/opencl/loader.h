// The OpenCL loader, opened at run time, and a table of its functions. The few types and numbers
// that are used are declared here, as the Khronos headers have them: those are not needed to build.
// Nothing here is global: an application that uses OpenCL itself is not disturbed.
#ifndef SKIM_OPENCL_LOADER_H
#define SKIM_OPENCL_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define CL_API_CALL __stdcall
#else
#define CL_API_CALL
#endif

typedef struct _cl_platform_id *cl_platform_id;
typedef struct _cl_device_id *cl_device_id;
typedef struct _cl_context *cl_context;
typedef struct _cl_command_queue *cl_command_queue;
typedef struct _cl_mem *cl_mem;
typedef struct _cl_program *cl_program;
typedef struct _cl_kernel *cl_kernel;
typedef struct _cl_event *cl_event;

typedef int32_t cl_int;
typedef uint32_t cl_uint;
typedef uint64_t cl_ulong;
typedef cl_uint cl_bool;
typedef cl_ulong cl_bitfield;
typedef intptr_t cl_context_properties;

enum {
    CL_SUCCESS = 0,
    CL_DEVICE_NOT_FOUND = -1,
    CL_DEVICE_NOT_AVAILABLE = -2,
    CL_COMPILER_NOT_AVAILABLE = -3,
    CL_MEM_OBJECT_ALLOCATION_FAILURE = -4,
    CL_OUT_OF_RESOURCES = -5,
    CL_OUT_OF_HOST_MEMORY = -6,
    CL_BUILD_PROGRAM_FAILURE = -11,
    CL_INVALID_BINARY = -42,
    CL_INVALID_COMMAND_QUEUE = -36,
    CL_INVALID_BUFFER_SIZE = -61,
    CL_PLATFORM_NOT_FOUND_KHR = -1001,
};

enum {
    CL_PLATFORM_NAME = 0x0902,
    CL_DEVICE_TYPE = 0x1000,
    CL_DEVICE_MAX_COMPUTE_UNITS = 0x1002,
    CL_DEVICE_MAX_WORK_GROUP_SIZE = 0x1004,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE = 0x1010,
    CL_DEVICE_MAX_PARAMETER_SIZE = 0x1017,
    CL_DEVICE_GLOBAL_MEM_SIZE = 0x101f,
    CL_DEVICE_LOCAL_MEM_SIZE = 0x1023,
    CL_DEVICE_ENDIAN_LITTLE = 0x1026,
    CL_DEVICE_AVAILABLE = 0x1027,
    CL_DEVICE_COMPILER_AVAILABLE = 0x1028,
    CL_DEVICE_NAME = 0x102b,
    CL_DRIVER_VERSION = 0x102d,
    CL_DEVICE_PROFILE = 0x102e,
    CL_DEVICE_VERSION = 0x102f,
    CL_DEVICE_EXTENSIONS = 0x1030,
    CL_DEVICE_PLATFORM = 0x1031,
    CL_DEVICE_HOST_UNIFIED_MEMORY = 0x1035,
    CL_DEVICE_UUID_KHR = 0x106a,
    CL_CONTEXT_DEVICES = 0x1081,
    CL_CONTEXT_PLATFORM = 0x1084,
    CL_QUEUE_CONTEXT = 0x1090,
    CL_QUEUE_DEVICE = 0x1091,
    CL_QUEUE_PROPERTIES = 0x1093,
    CL_MEM_OBJECT_BUFFER = 0x10f0,
    CL_MEM_TYPE = 0x1100,
    CL_MEM_SIZE = 0x1102,
    CL_MEM_CONTEXT = 0x1106,
    CL_PROGRAM_BINARY_SIZES = 0x1165,
    CL_PROGRAM_BINARIES = 0x1166,
    CL_PROGRAM_BUILD_LOG = 0x1183,
    CL_EVENT_COMMAND_EXECUTION_STATUS = 0x11d3,
    CL_PROFILING_COMMAND_END = 0x1283,
};

enum {
    CL_FALSE = 0,
    CL_TRUE = 1,
    CL_COMPLETE = 0,
    CL_DEVICE_TYPE_CPU = 1 << 1,
    CL_DEVICE_TYPE_GPU = 1 << 2,
    CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE = 1 << 0,
    CL_QUEUE_PROFILING_ENABLE = 1 << 1,
    CL_MEM_READ_WRITE = 1 << 0,
    CL_MEM_ALLOC_HOST_PTR = 1 << 4,
    CL_MAP_READ = 1 << 0,
    CL_MAP_WRITE = 1 << 1,
};
#define CL_DEVICE_TYPE_ALL ((cl_bitfield)0xffffffff)

// X(name, result, arguments): OpenCL 1.2.
#define SKIM_OPENCL_FUNCTIONS(X)                                                                   \
    X(GetPlatformIDs, cl_int, (cl_uint, cl_platform_id *, cl_uint *))                              \
    X(GetPlatformInfo, cl_int, (cl_platform_id, cl_uint, size_t, void *, size_t *))                \
    X(GetDeviceIDs, cl_int, (cl_platform_id, cl_bitfield, cl_uint, cl_device_id *, cl_uint *))     \
    X(GetDeviceInfo, cl_int, (cl_device_id, cl_uint, size_t, void *, size_t *))                    \
    X(CreateContext, cl_context,                                                                   \
      (const cl_context_properties *, cl_uint, const cl_device_id *,                               \
       void(CL_API_CALL *)(const char *, const void *, size_t, void *), void *, cl_int *))         \
    X(RetainContext, cl_int, (cl_context))                                                         \
    X(ReleaseContext, cl_int, (cl_context))                                                        \
    X(GetContextInfo, cl_int, (cl_context, cl_uint, size_t, void *, size_t *))                     \
    X(CreateCommandQueue, cl_command_queue, (cl_context, cl_device_id, cl_bitfield, cl_int *))     \
    X(RetainCommandQueue, cl_int, (cl_command_queue))                                              \
    X(ReleaseCommandQueue, cl_int, (cl_command_queue))                                             \
    X(GetCommandQueueInfo, cl_int, (cl_command_queue, cl_uint, size_t, void *, size_t *))          \
    X(CreateBuffer, cl_mem, (cl_context, cl_bitfield, size_t, void *, cl_int *))                   \
    X(RetainMemObject, cl_int, (cl_mem))                                                           \
    X(ReleaseMemObject, cl_int, (cl_mem))                                                          \
    X(GetMemObjectInfo, cl_int, (cl_mem, cl_uint, size_t, void *, size_t *))                       \
    X(CreateProgramWithSource, cl_program,                                                         \
      (cl_context, cl_uint, const char **, const size_t *, cl_int *))                              \
    X(CreateProgramWithBinary, cl_program,                                                         \
      (cl_context, cl_uint, const cl_device_id *, const size_t *, const unsigned char **,          \
       cl_int *, cl_int *))                                                                        \
    X(BuildProgram, cl_int,                                                                        \
      (cl_program, cl_uint, const cl_device_id *, const char *,                                    \
       void(CL_API_CALL *)(cl_program, void *), void *))                                           \
    X(GetProgramInfo, cl_int, (cl_program, cl_uint, size_t, void *, size_t *))                     \
    X(GetProgramBuildInfo, cl_int, (cl_program, cl_device_id, cl_uint, size_t, void *, size_t *))  \
    X(ReleaseProgram, cl_int, (cl_program))                                                        \
    X(CreateKernel, cl_kernel, (cl_program, const char *, cl_int *))                               \
    X(ReleaseKernel, cl_int, (cl_kernel))                                                          \
    X(SetKernelArg, cl_int, (cl_kernel, cl_uint, size_t, const void *))                            \
    X(EnqueueNDRangeKernel, cl_int,                                                                \
      (cl_command_queue, cl_kernel, cl_uint, const size_t *, const size_t *, const size_t *,       \
       cl_uint, const cl_event *, cl_event *))                                                     \
    X(EnqueueReadBuffer, cl_int,                                                                   \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, void *, cl_uint, const cl_event *,       \
       cl_event *))                                                                                \
    X(EnqueueWriteBuffer, cl_int,                                                                  \
      (cl_command_queue, cl_mem, cl_bool, size_t, size_t, const void *, cl_uint, const cl_event *, \
       cl_event *))                                                                                \
    X(EnqueueCopyBuffer, cl_int,                                                                   \
      (cl_command_queue, cl_mem, cl_mem, size_t, size_t, size_t, cl_uint, const cl_event *,        \
       cl_event *))                                                                                \
    X(EnqueueFillBuffer, cl_int,                                                                   \
      (cl_command_queue, cl_mem, const void *, size_t, size_t, size_t, cl_uint, const cl_event *,  \
       cl_event *))                                                                                \
    X(EnqueueMapBuffer, void *,                                                                    \
      (cl_command_queue, cl_mem, cl_bool, cl_bitfield, size_t, size_t, cl_uint, const cl_event *,  \
       cl_event *, cl_int *))                                                                      \
    X(EnqueueUnmapMemObject, cl_int,                                                               \
      (cl_command_queue, cl_mem, void *, cl_uint, const cl_event *, cl_event *))                   \
    X(EnqueueMarkerWithWaitList, cl_int,                                                           \
      (cl_command_queue, cl_uint, const cl_event *, cl_event *))                                   \
    X(EnqueueBarrierWithWaitList, cl_int,                                                          \
      (cl_command_queue, cl_uint, const cl_event *, cl_event *))                                   \
    X(WaitForEvents, cl_int, (cl_uint, const cl_event *))                                          \
    X(GetEventInfo, cl_int, (cl_event, cl_uint, size_t, void *, size_t *))                         \
    X(GetEventProfilingInfo, cl_int, (cl_event, cl_uint, size_t, void *, size_t *))                \
    X(ReleaseEvent, cl_int, (cl_event))                                                            \
    X(Flush, cl_int, (cl_command_queue))                                                           \
    X(Finish, cl_int, (cl_command_queue))

typedef struct skim_opencl_functions {
#define SKIM_OPENCL_MEMBER(name, result, arguments) result(CL_API_CALL *name) arguments;
    SKIM_OPENCL_FUNCTIONS(SKIM_OPENCL_MEMBER)
#undef SKIM_OPENCL_MEMBER
} skim_opencl_functions;

// Opens the loader and fills the table; or writes why there is none to reason and returns false,
// with nothing left open.
bool skim_opencl_library_open(void **library, skim_opencl_functions *functions, char *reason,
                              size_t reason_size);
void skim_opencl_library_close(void *library);

#endif
