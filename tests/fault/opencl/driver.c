// The fake loader: books, faults and lies around the real one.
#include "tests/fault/opencl/fake.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRAMS_MAX = 256, LIVING_MAX = 4096, OPTIONS_MAX = 256 };
static const char binary_mark[] = "a binary of the fake driver's ";
static const char other_mark[] = "a binary of another driver's ";

typedef enum kind { CONTEXT, QUEUE, MEMORY, PROGRAM, KERNEL, EVENT, KINDS } kind;
static const char *const kind_names[KINDS] = {"context", "queue",  "memory",
                                              "program", "kernel", "event"};

// An object as the library sees it: the handle is its address. What it stands for is the driver's.
typedef struct object {
    kind kind;
    uint32_t references; // 0: destroyed
    void *real;
    size_t size;        // memory
    void *mapped;       // memory
    int program;        // program, kernel: which of those that were built; -1: not built
    const char *source; // program: as given, copied
    bool failed;        // event: the work before it failed
    uint32_t arguments; // kernel: that were set
} object;

// Programs stay built: the driver's compiler is not what is tested.
typedef struct built {
    char *source;
    char options[OPTIONS_MAX];
    cl_program real;
} built;

static fake_control fake;
static skim_opencl_functions real;
static cl_platform_id real_platform;
static cl_device_id real_device;
static cl_context real_context;
static built programs[PROGRAMS_MAX];
static int program_count;
static object *living[LIVING_MAX]; // objects are never freed, so that old handles are known
static uint32_t living_count;

// ---- books

static void violation(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));
static void violation(const char *format, ...)
{
    if (fake.violation[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fake.violation, sizeof fake.violation, format, arguments);
    va_end(arguments);
    if (fake.notes)
        fake.notes(fake.violation);
}

static bool fires(fake_call call)
{
    const uint32_t index = fake.calls[call]++;
    const fake_plan *plan = &fake.plan;
    if (!plan->set || plan->call != call ||
        (plan->persistent ? index < plan->index : index != plan->index))
        return false;
    fake.fired++;
    fake.fired_call = call;
    if (fake.fires)
        fake.fires();
    return true;
}

static object *make(kind of, void *handle)
{
    object *made = calloc(1, sizeof *made);
    if (!made || living_count == LIVING_MAX)
        abort();
    *made = (object){.kind = of, .references = 1, .real = handle, .program = -1};
    living[living_count++] = made;
    fake.objects++;
    return made;
}

// NULL, and a violation, if the handle is not of a living object of the kind.
static object *find(kind of, const void *handle, const char *call)
{
    for (uint32_t i = 0; i < living_count; i++)
        if (living[i] == handle && living[i]->kind == of)
            return living[i];
    violation("%s: %p is no living %s", call, handle, kind_names[of]);
    return NULL;
}

static void destroy(object *own)
{
    for (uint32_t i = 0; i < living_count; i++)
        if (living[i] == own)
            living[i] = living[--living_count];
    switch (own->kind) {
    case QUEUE:
        real.Finish(own->real);
        real.ReleaseCommandQueue(own->real);
        break;
    case MEMORY:
        if (own->mapped)
            violation("clReleaseMemObject: the memory is mapped");
        fake.memory -= own->size;
        real.ReleaseMemObject(own->real);
        break;
    case KERNEL:
        real.ReleaseKernel(own->real);
        break;
    case EVENT:
        real.ReleaseEvent(own->real);
        break;
    default: // contexts and programs stay
        break;
    }
    fake.objects--;
}

static cl_int release(kind of, void *handle, const char *call)
{
    object *own = find(of, handle, call);
    if (own && --own->references == 0)
        destroy(own);
    return own ? CL_SUCCESS : -30;
}

static cl_int retain(kind of, void *handle, const char *call)
{
    object *own = find(of, handle, call);
    if (own)
        own->references++;
    return own ? CL_SUCCESS : -30;
}

#define EXPORT __attribute__((visibility("default")))
#define POISON(type) ((type)(uintptr_t)0xdead00000badull)
// First in every call: counts it, and returns what it was told to.
#define ENTER(name)                                                                                \
    do {                                                                                           \
        if (fires(FAKE_##name))                                                                    \
            return fake.plan.result;                                                               \
    } while (0)
// The same for calls that give an object: what a failed one returns is undefined.
#define ENTER_MAKING(name, type, error)                                                            \
    do {                                                                                           \
        *(error) = CL_SUCCESS;                                                                     \
        if (fires(FAKE_##name)) {                                                                  \
            *(error) = fake.plan.result;                                                           \
            return POISON(type);                                                                   \
        }                                                                                          \
    } while (0)
#define FIND(name, of, handle)                                                                     \
    object *name = find(of, handle, __func__);                                                     \
    if (!name)                                                                                     \
    return -30 /* CL_INVALID_VALUE */

// Declares an entry point of the table, exported under its own name.
#define ENTRY(name, result, arguments) EXPORT result CL_API_CALL cl##name arguments;
SKIM_OPENCL_FUNCTIONS(ENTRY)
#undef ENTRY

// ---- platforms and devices

cl_int clGetPlatformIDs(cl_uint room, cl_platform_id *platforms, cl_uint *count)
{
    ENTER(GetPlatformIDs);
    if (fake.lies.no_platform)
        return CL_PLATFORM_NOT_FOUND_KHR;
    if (room > 0 && platforms)
        platforms[0] = real_platform;
    *count = 1;
    return CL_SUCCESS;
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_uint what, size_t size, void *value,
                         size_t *given)
{
    ENTER(GetPlatformInfo);
    return real.GetPlatformInfo(platform, what, size, value, given);
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint room,
                      cl_device_id *devices, cl_uint *count)
{
    (void)type;
    ENTER(GetDeviceIDs);
    const bool gone =
        fake.lies.vanishes_after > 0 && fake.calls[FAKE_GetDeviceIDs] > fake.lies.vanishes_after;
    if (platform != real_platform)
        violation("clGetDeviceIDs: a platform that there is not");
    if (fake.lies.no_device || gone)
        return CL_DEVICE_NOT_FOUND;
    if (room > 0)
        devices[0] = real_device;
    *count = 1;
    return CL_SUCCESS;
}

static cl_int give(const void *from, size_t length, size_t size, void *value, size_t *given)
{
    if (given)
        *given = length;
    if (!value)
        return CL_SUCCESS;
    if (size < length)
        return -30;
    memcpy(value, from, length);
    return CL_SUCCESS;
}

static cl_int give_text(const char *text, size_t size, void *value, size_t *given)
{
    return give(text, strlen(text) + 1, size, value, given);
}

static cl_int give_number(uint64_t number, size_t size, void *value, size_t *given)
{
    const cl_uint small = (cl_uint)number;
    return size == sizeof small ? give(&small, sizeof small, size, value, given)
                                : give(&number, sizeof number, size, value, given);
}

cl_int clGetDeviceInfo(cl_device_id device, cl_uint what, size_t size, void *value, size_t *given)
{
    ENTER(GetDeviceInfo);
    const fake_lies *lies = &fake.lies;
    if (device != real_device)
        violation("clGetDeviceInfo: a device that there is not");
    const struct {
        cl_uint what;
        bool lies;
        uint64_t value;
    } numbers[] = {
        {CL_DEVICE_AVAILABLE, lies->unavailable, 0},
        {CL_DEVICE_COMPILER_AVAILABLE, lies->no_compiler, 0},
        {CL_DEVICE_ENDIAN_LITTLE, lies->big_endian, 0},
        {CL_DEVICE_TYPE, lies->is_gpu, CL_DEVICE_TYPE_GPU},
        {CL_DEVICE_HOST_UNIFIED_MEMORY, lies->is_gpu, 0},
        {CL_DEVICE_GLOBAL_MEM_SIZE, lies->memory > 0, lies->memory},
        {CL_DEVICE_MAX_MEM_ALLOC_SIZE, lies->allocation_max > 0, lies->allocation_max},
        {CL_DEVICE_LOCAL_MEM_SIZE, lies->local_memory > 0, lies->local_memory},
        {CL_DEVICE_MAX_WORK_GROUP_SIZE, lies->threads > 0, lies->threads},
        {CL_DEVICE_MAX_PARAMETER_SIZE, lies->parameter_size > 0, lies->parameter_size},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].what == what && numbers[i].lies)
            return give_number(numbers[i].value, size, value, given);
    if (what == CL_DEVICE_VERSION && lies->version)
        return give_text(lies->version, size, value, given);
    if (what == CL_DEVICE_PROFILE && lies->profile)
        return give_text(lies->profile, size, value, given);
    if (what == CL_DEVICE_NAME && lies->name)
        return give_text(lies->name, size, value, given);
    if (what == CL_DEVICE_EXTENSIONS)
        return give_text(lies->has_uuid ? "cl_khr_device_uuid" : "", size, value, given);
    if (what == CL_DEVICE_UUID_KHR && lies->has_uuid)
        return give("a fake device!!", 16, size, value, given);
    return real.GetDeviceInfo(device, what, size, value, given);
}

// ---- contexts and queues

cl_context clCreateContext(const cl_context_properties *properties, cl_uint count,
                           const cl_device_id *devices,
                           void(CL_API_CALL *notify)(const char *, const void *, size_t, void *),
                           void *user, cl_int *error)
{
    (void)properties, (void)notify, (void)user;
    ENTER_MAKING(CreateContext, cl_context, error);
    if (count != 1 || devices[0] != real_device)
        violation("clCreateContext: not for the one device");
    return (cl_context)make(CONTEXT, real_context);
}

cl_int clRetainContext(cl_context context)
{
    ENTER(RetainContext);
    return retain(CONTEXT, context, __func__);
}

cl_int clReleaseContext(cl_context context)
{
    ENTER(ReleaseContext);
    return release(CONTEXT, context, __func__);
}

cl_int clGetContextInfo(cl_context context, cl_uint what, size_t size, void *value, size_t *given)
{
    ENTER(GetContextInfo);
    FIND(own, CONTEXT, context);
    return real.GetContextInfo(own->real, what, size, value, given);
}

cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device,
                                      cl_bitfield properties, cl_int *error)
{
    ENTER_MAKING(CreateCommandQueue, cl_command_queue, error);
    find(CONTEXT, context, __func__);
    cl_command_queue handle = real.CreateCommandQueue(real_context, device, properties, error);
    return *error == CL_SUCCESS ? (cl_command_queue)make(QUEUE, handle) : NULL;
}

cl_int clRetainCommandQueue(cl_command_queue queue)
{
    ENTER(RetainCommandQueue);
    return retain(QUEUE, queue, __func__);
}

cl_int clReleaseCommandQueue(cl_command_queue queue)
{
    ENTER(ReleaseCommandQueue);
    return release(QUEUE, queue, __func__);
}

cl_int clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t size, void *value,
                             size_t *given)
{
    ENTER(GetCommandQueueInfo);
    FIND(own, QUEUE, queue);
    return real.GetCommandQueueInfo(own->real, what, size, value, given);
}

// ---- memory

cl_mem clCreateBuffer(cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error)
{
    ENTER_MAKING(CreateBuffer, cl_mem, error);
    find(CONTEXT, context, __func__);
    const uint64_t most = fake.lies.allocation_max;
    if (size == 0 || (most > 0 && size > most)) {
        *error = CL_INVALID_BUFFER_SIZE;
        return NULL;
    }
    cl_mem handle = real.CreateBuffer(real_context, flags, size, host, error);
    if (*error != CL_SUCCESS)
        return NULL;
    object *made = make(MEMORY, handle);
    made->size = size;
    fake.memory += size;
    return (cl_mem)made;
}

cl_int clRetainMemObject(cl_mem memory)
{
    ENTER(RetainMemObject);
    return retain(MEMORY, memory, __func__);
}

cl_int clReleaseMemObject(cl_mem memory)
{
    ENTER(ReleaseMemObject);
    return release(MEMORY, memory, __func__);
}

cl_int clGetMemObjectInfo(cl_mem memory, cl_uint what, size_t size, void *value, size_t *given)
{
    ENTER(GetMemObjectInfo);
    FIND(own, MEMORY, memory);
    return real.GetMemObjectInfo(own->real, what, size, value, given);
}

static void check_range(const object *memory, size_t offset, size_t size, const char *call)
{
    if (size == 0 || offset > memory->size || size > memory->size - offset)
        violation("%s: %zu bytes from %zu of %zu", call, size, offset, memory->size);
}

// ---- programs

static bool begins(const unsigned char *bytes, size_t size, const char *mark)
{
    return size > strlen(mark) && memcmp(bytes, mark, strlen(mark)) == 0;
}

static const char *mark(void)
{
    return fake.lies.other_driver ? other_mark : binary_mark;
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char **sources,
                                     const size_t *lengths, cl_int *error)
{
    (void)lengths;
    ENTER_MAKING(CreateProgramWithSource, cl_program, error);
    find(CONTEXT, context, __func__);
    if (count != 1)
        violation("clCreateProgramWithSource: %u sources", count);
    object *made = make(PROGRAM, NULL);
    made->source = sources[0]; // the library's own, which stays
    return (cl_program)made;
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id *devices,
                                     const size_t *sizes, const unsigned char **binaries,
                                     cl_int *status, cl_int *error)
{
    (void)count, (void)devices;
    ENTER_MAKING(CreateProgramWithBinary, cl_program, error);
    find(CONTEXT, context, __func__);
    *status = CL_SUCCESS;
    if (!begins(binaries[0], sizes[0], mark())) {
        *status = *error = CL_INVALID_BINARY;
        return NULL;
    }
    object *made = make(PROGRAM, NULL);
    made->program = atoi((const char *)binaries[0] + strlen(mark()));
    fake.binaries_taken++;
    return (cl_program)made;
}

static int build(const char *source, const char *options)
{
    for (int i = 0; i < program_count; i++)
        if (strcmp(programs[i].options, options) == 0 && strcmp(programs[i].source, source) == 0)
            return i;
    cl_int error = CL_SUCCESS;
    cl_program made = real.CreateProgramWithSource(real_context, 1, &source, NULL, &error);
    if (program_count == PROGRAMS_MAX || error != CL_SUCCESS ||
        real.BuildProgram(made, 1, &real_device, options, NULL, NULL) != CL_SUCCESS)
        return -1;
    built *own = &programs[program_count];
    own->source = strdup(source);
    own->real = made;
    snprintf(own->options, sizeof own->options, "%s", options);
    return program_count++;
}

cl_int clBuildProgram(cl_program program, cl_uint count, const cl_device_id *devices,
                      const char *options, void(CL_API_CALL *notify)(cl_program, void *),
                      void *user)
{
    (void)count, (void)devices, (void)notify, (void)user;
    ENTER(BuildProgram);
    FIND(own, PROGRAM, program);
    if (own->source && fake.lies.bad_source)
        return CL_BUILD_PROGRAM_FAILURE;
    if (own->source)
        own->program = build(own->source, options);
    if (own->program < 0 || own->program >= program_count)
        return CL_BUILD_PROGRAM_FAILURE;
    if (strcmp(programs[own->program].options, options) != 0)
        violation("clBuildProgram: a binary that was built with other options");
    return CL_SUCCESS;
}

cl_int clGetProgramInfo(cl_program program, cl_uint what, size_t size, void *value, size_t *given)
{
    (void)given;
    ENTER(GetProgramInfo);
    FIND(own, PROGRAM, program);
    char text[64];
    snprintf(text, sizeof text, "%s%d", mark(), own->program);
    const size_t length = strlen(text) + 1;
    if (size != sizeof(size_t))
        violation("clGetProgramInfo: %zu bytes for one device", size);
    if (what == CL_PROGRAM_BINARY_SIZES)
        memcpy(value, &length, sizeof length);
    else
        memcpy(*(unsigned char **)value, text, length);
    return CL_SUCCESS;
}

cl_int clGetProgramBuildInfo(cl_program program, cl_device_id device, cl_uint what, size_t size,
                             void *value, size_t *given)
{
    (void)device, (void)what;
    ENTER(GetProgramBuildInfo);
    FIND(own, PROGRAM, program);
    (void)own;
    return give_text("line 7: this compiler is out of order\nline 8: and so is this\n", size, value,
                     given);
}

cl_int clReleaseProgram(cl_program program)
{
    ENTER(ReleaseProgram);
    return release(PROGRAM, program, __func__);
}

cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *error)
{
    ENTER_MAKING(CreateKernel, cl_kernel, error);
    const object *own = find(PROGRAM, program, __func__);
    if (!own || own->program < 0) {
        *error = -45; // CL_INVALID_PROGRAM_EXECUTABLE
        return NULL;
    }
    cl_kernel handle = real.CreateKernel(programs[own->program].real, name, error);
    if (*error != CL_SUCCESS)
        return NULL;
    object *made = make(KERNEL, handle);
    made->program = own->program;
    return (cl_kernel)made;
}

cl_int clReleaseKernel(cl_kernel kernel)
{
    ENTER(ReleaseKernel);
    return release(KERNEL, kernel, __func__);
}

cl_int clSetKernelArg(cl_kernel kernel, cl_uint index, size_t size, const void *value)
{
    ENTER(SetKernelArg);
    FIND(own, KERNEL, kernel);
    // A handle, if it is that of a memory: nothing else has its bits.
    void *handle = NULL;
    if (size == sizeof handle)
        memcpy(&handle, value, size);
    for (uint32_t i = 0; i < living_count && handle; i++)
        if (living[i] == handle && living[i]->kind == MEMORY)
            return real.SetKernelArg(own->real, index, size, &living[i]->real);
    if (handle)
        violation("clSetKernelArg: argument %u is no living memory", index);
    return real.SetKernelArg(own->real, index, size, value);
}

// ---- commands

// The driver's own events of those that a command waits for, and the object of the one that it
// gives.
typedef struct order {
    cl_event waits[4];
    cl_uint count;
    cl_event made;
    cl_event *event;
} order;

static order take_order(cl_uint count, const cl_event *events, cl_event *event)
{
    order own = {.event = event};
    for (cl_uint i = 0; i < count && i < 4; i++) {
        const object *wait = find(EVENT, events[i], "a wait list");
        if (wait)
            own.waits[own.count++] = wait->real;
    }
    return own;
}

static cl_int give_event(order *own, cl_int result)
{
    if (own->event && result == CL_SUCCESS)
        *own->event = (cl_event)make(EVENT, own->made);
    return result;
}

#define ORDER(count, events, event)                                                                \
    order own_order = take_order(count, events, event);                                            \
    const cl_event *waits = own_order.count ? own_order.waits : NULL;                              \
    cl_event *gives = event ? &own_order.made : NULL

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                              const size_t *offset, const size_t *global, const size_t *local,
                              cl_uint count, const cl_event *events, cl_event *event)
{
    ENTER(EnqueueNDRangeKernel);
    FIND(own, QUEUE, queue);
    FIND(what, KERNEL, kernel);
    ORDER(count, events, event);
    for (cl_uint d = 0; d < dimensions; d++)
        if (global[d] == 0 || local[d] == 0 || global[d] % local[d] != 0)
            violation("clEnqueueNDRangeKernel: %zu work-items in groups of %zu", global[d],
                      local[d]);
    fake.split_launches += strstr(programs[what->program].options, "CHUNK_SHIFT") != NULL;
    return give_event(&own_order,
                      real.EnqueueNDRangeKernel(own->real, what->real, dimensions, offset, global,
                                                local, own_order.count, waits, gives));
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset,
                           size_t size, void *data, cl_uint count, const cl_event *events,
                           cl_event *event)
{
    ENTER(EnqueueReadBuffer);
    FIND(own, QUEUE, queue);
    FIND(what, MEMORY, memory);
    ORDER(count, events, event);
    check_range(what, offset, size, __func__);
    return give_event(&own_order,
                      real.EnqueueReadBuffer(own->real, what->real, blocking, offset, size, data,
                                             own_order.count, waits, gives));
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset,
                            size_t size, const void *data, cl_uint count, const cl_event *events,
                            cl_event *event)
{
    ENTER(EnqueueWriteBuffer);
    FIND(own, QUEUE, queue);
    FIND(what, MEMORY, memory);
    ORDER(count, events, event);
    check_range(what, offset, size, __func__);
    return give_event(&own_order,
                      real.EnqueueWriteBuffer(own->real, what->real, blocking, offset, size, data,
                                              own_order.count, waits, gives));
}

cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_at,
                           size_t to_at, size_t size, cl_uint count, const cl_event *events,
                           cl_event *event)
{
    ENTER(EnqueueCopyBuffer);
    FIND(own, QUEUE, queue);
    FIND(source, MEMORY, from);
    FIND(target, MEMORY, to);
    ORDER(count, events, event);
    check_range(source, from_at, size, __func__);
    check_range(target, to_at, size, __func__);
    if (source == target && from_at < to_at + size && to_at < from_at + size)
        violation("clEnqueueCopyBuffer: the ranges overlap");
    return give_event(&own_order,
                      real.EnqueueCopyBuffer(own->real, source->real, target->real, from_at, to_at,
                                             size, own_order.count, waits, gives));
}

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem memory, const void *pattern,
                           size_t pattern_size, size_t offset, size_t size, cl_uint count,
                           const cl_event *events, cl_event *event)
{
    ENTER(EnqueueFillBuffer);
    FIND(own, QUEUE, queue);
    FIND(what, MEMORY, memory);
    ORDER(count, events, event);
    check_range(what, offset, size, __func__);
    if (offset % pattern_size != 0 || size % pattern_size != 0)
        violation("clEnqueueFillBuffer: %zu bytes from %zu in patterns of %zu", size, offset,
                  pattern_size);
    return give_event(&own_order,
                      real.EnqueueFillBuffer(own->real, what->real, pattern, pattern_size, offset,
                                             size, own_order.count, waits, gives));
}

void *clEnqueueMapBuffer(cl_command_queue queue, cl_mem memory, cl_bool blocking, cl_bitfield flags,
                         size_t offset, size_t size, cl_uint count, const cl_event *events,
                         cl_event *event, cl_int *error)
{
    (void)count, (void)events, (void)event;
    ENTER_MAKING(EnqueueMapBuffer, void *, error);
    object *own = find(QUEUE, queue, __func__), *what = find(MEMORY, memory, __func__);
    if (!own || !what) {
        *error = -30;
        return NULL;
    }
    check_range(what, offset, size, __func__);
    what->mapped = real.EnqueueMapBuffer(own->real, what->real, blocking, flags, offset, size, 0,
                                         NULL, NULL, error);
    return what->mapped;
}

cl_int clEnqueueUnmapMemObject(cl_command_queue queue, cl_mem memory, void *mapped, cl_uint count,
                               const cl_event *events, cl_event *event)
{
    (void)count, (void)events, (void)event;
    FIND(own, QUEUE, queue);
    FIND(what, MEMORY, memory);
    if (!what->mapped || what->mapped != mapped)
        violation("clEnqueueUnmapMemObject: it is not mapped there");
    what->mapped = NULL; // whatever it returns: nothing more could be done
    ENTER(EnqueueUnmapMemObject);
    return real.EnqueueUnmapMemObject(own->real, what->real, mapped, 0, NULL, NULL);
}

cl_int clEnqueueMarkerWithWaitList(cl_command_queue queue, cl_uint count, const cl_event *events,
                                   cl_event *event)
{
    ENTER(EnqueueMarkerWithWaitList);
    FIND(own, QUEUE, queue);
    ORDER(count, events, event);
    cl_int result = give_event(
        &own_order, real.EnqueueMarkerWithWaitList(own->real, own_order.count, waits, gives));
    if (result == CL_SUCCESS && fires(FAKE_work))
        ((object *)*event)->failed = true;
    return result;
}

cl_int clEnqueueBarrierWithWaitList(cl_command_queue queue, cl_uint count, const cl_event *events,
                                    cl_event *event)
{
    ENTER(EnqueueBarrierWithWaitList);
    FIND(own, QUEUE, queue);
    ORDER(count, events, event);
    return give_event(&own_order,
                      real.EnqueueBarrierWithWaitList(own->real, own_order.count, waits, gives));
}

// ---- waiting

cl_int clWaitForEvents(cl_uint count, const cl_event *events)
{
    ENTER(WaitForEvents);
    order own = take_order(count, events, NULL);
    cl_int result = real.WaitForEvents(own.count, own.waits);
    for (cl_uint i = 0; i < count && result == CL_SUCCESS; i++)
        result = ((const object *)events[i])->failed ? -14 : CL_SUCCESS;
    return result;
}

cl_int clGetEventInfo(cl_event event, cl_uint what, size_t size, void *value, size_t *given)
{
    ENTER(GetEventInfo);
    FIND(own, EVENT, event);
    cl_int result = real.GetEventInfo(own->real, what, size, value, given);
    const cl_int failed = CL_OUT_OF_RESOURCES;
    if (result == CL_SUCCESS && own->failed && *(cl_int *)value == CL_COMPLETE)
        memcpy(value, &failed, sizeof failed);
    return result;
}

cl_int clGetEventProfilingInfo(cl_event event, cl_uint what, size_t size, void *value,
                               size_t *given)
{
    ENTER(GetEventProfilingInfo);
    FIND(own, EVENT, event);
    return real.GetEventProfilingInfo(own->real, what, size, value, given);
}

cl_int clReleaseEvent(cl_event event)
{
    ENTER(ReleaseEvent);
    return release(EVENT, event, __func__);
}

cl_int clFlush(cl_command_queue queue)
{
    ENTER(Flush);
    FIND(own, QUEUE, queue);
    return real.Flush(own->real);
}

cl_int clFinish(cl_command_queue queue)
{
    ENTER(Finish);
    FIND(own, QUEUE, queue);
    return real.Finish(own->real);
}

// ---- the test's side

static const char *name_of(fake_call call)
{
    static const char *const names[] = {
#define NAME(name, result, arguments) "cl" #name,
        SKIM_OPENCL_FUNCTIONS(NAME)
#undef NAME
            "the work before a marker"};
    return names[call];
}

static const cl_int *errors_of(fake_call call)
{
    static const cl_int usual[] = {CL_OUT_OF_RESOURCES, CL_OUT_OF_HOST_MEMORY, 0};
    static const cl_int of_commands[] = {CL_OUT_OF_RESOURCES, CL_OUT_OF_HOST_MEMORY,
                                         CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_INVALID_COMMAND_QUEUE,
                                         0};
    static const cl_int of_compiler[] = {CL_BUILD_PROGRAM_FAILURE, CL_OUT_OF_HOST_MEMORY, 0};
    static const cl_int of_creation[] = {CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY,
                                         -30, 0};
    switch (call) {
    case FAKE_BuildProgram:
        return of_compiler;
    case FAKE_CreateBuffer:
    case FAKE_CreateContext:
    case FAKE_CreateCommandQueue:
        return of_creation;
    case FAKE_EnqueueNDRangeKernel:
    case FAKE_EnqueueReadBuffer:
    case FAKE_EnqueueWriteBuffer:
    case FAKE_EnqueueCopyBuffer:
    case FAKE_EnqueueFillBuffer:
    case FAKE_EnqueueMarkerWithWaitList:
        return of_commands;
    default:
        return usual;
    }
}

static void reset(const fake_plan *plan)
{
    fake.plan = *plan;
    memset(fake.calls, 0, sizeof fake.calls);
    fake.fired = fake.split_launches = 0;
    fake.violation[0] = '\0';
}

static void list(char *text, size_t size)
{
    uint32_t counts[KINDS] = {0};
    size_t used = 0;
    for (uint32_t i = 0; i < living_count; i++)
        counts[living[i]->kind]++;
    text[0] = '\0';
    for (int k = 0; k < KINDS && used < size; k++)
        if (counts[k] > 0)
            used += (size_t)snprintf(text + used, size - used, "%s%u of kind %s", used ? ", " : "",
                                     counts[k], kind_names[k]);
}

static void forget(void)
{
    while (living_count > 0) {
        living[0]->mapped = NULL;
        destroy(living[0]);
    }
    fake.violation[0] = '\0';
}

// The real loader, by the name of its file: its other name is ours.
static bool open_real(void)
{
    void *library = dlopen("libOpenCL.so.1.0.0", RTLD_NOW | RTLD_LOCAL);
    void *symbol;
    cl_uint count = 0;
    cl_int error = CL_SUCCESS;
    if (!library)
        return false;
#define FILL(name, result, arguments)                                                              \
    symbol = dlsym(library, "cl" #name);                                                           \
    if (!symbol)                                                                                   \
        return false;                                                                              \
    memcpy(&real.name, &symbol, sizeof symbol);
    SKIM_OPENCL_FUNCTIONS(FILL)
#undef FILL
    if (real.GetPlatformIDs(1, &real_platform, &count) != CL_SUCCESS || count == 0 ||
        real.GetDeviceIDs(real_platform, CL_DEVICE_TYPE_ALL, 1, &real_device, &count) !=
            CL_SUCCESS ||
        count == 0)
        return false;
    real_context = real.CreateContext(NULL, 1, &real_device, NULL, NULL, &error);
    return error == CL_SUCCESS;
}

EXPORT fake_control *fake_opencl(void);
fake_control *fake_opencl(void)
{
    if (!real_context && !open_real())
        return NULL;
    fake.name = name_of;
    fake.errors = errors_of;
    fake.reset = reset;
    fake.list = list;
    fake.forget = forget;
    return &fake;
}
