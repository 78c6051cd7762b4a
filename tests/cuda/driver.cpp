// An NVIDIA driver for the tests, on the host's memory: the functions of the driver interface that
// the backend uses, as a library of the driver's name. Its kernels are those of shaders/cuda,
// compiled as C++ (kernels_*.cpp). Work waits in its stream until somebody asks for it, and is then
// done in order: what is consumed too early or too late by the backend shows. It checks what a
// driver would check, and more: ranges of transfers, the current context, guards around memory.
#include "tests/cuda/driver.h"

#include "tests/cuda/fibres.h"
#include "tests/cuda/kernels.h"

#include <cuda.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

extern "C" {
uint32_t skim_device_mutant;
}

namespace
{

enum { GUARD = 256, DEVICES_MAX = 4, SPARSE_MIN = 1 << 28 };

emulated_driver driver;

std::recursive_mutex mutex;
bool initialised;

struct context {
    CUdevice device = 0;
    uint32_t retained = 0;
    CUresult fault = CUDA_SUCCESS; // sticky
    uint64_t allocated = 0;
    std::map<CUdeviceptr, size_t> memory;
    std::map<void *, size_t> pinned;
    std::set<struct stream *> streams; // but for the null stream
};

context contexts[DEVICES_MAX];
thread_local std::vector<CUcontext> current;

struct event {
    bool timed;
    uint64_t recorded = 0, done = 0; // recordings asked for, and those that were reached
    double time = 0;
    struct stream *in = NULL;
};

struct operation {
    std::function<CUresult()> run;
};

struct stream {
    context *of;
    std::deque<operation> waiting;
    std::vector<operation> *captured = NULL; // goes there instead
};

struct graph {
    std::vector<operation> operations;
};

uint32_t captures; // of all streams

struct module {
    context *of;
};

stream null_streams[DEVICES_MAX];
double device_time; // nanoseconds of work; so that the same run has the same times

// ---- what every function begins with

context *context_of(CUcontext handle)
{
    return (context *)handle;
}

context *current_context()
{
    return current.empty() ? NULL : context_of(current.back());
}

// Notes a call. What is to fail does; SKIM_CUDA_FUNCTIONS' order is that of the names.
CUresult count(emulated_call call)
{
    driver.current = (uint32_t)current.size();
    const uint32_t index = driver.calls[call]++;
    const emulated_plan *plan = &driver.plan;
    if (!plan->set || plan->call != call ||
        (plan->persistent ? index < plan->index : index != plan->index))
        return CUDA_SUCCESS;
    if (driver.fires)
        driver.fires();
    // As on a GPU: what kills a context is found by every later call, too.
    if (current_context() &&
        (plan->result == CUDA_ERROR_ILLEGAL_ADDRESS || plan->result == CUDA_ERROR_LAUNCH_FAILED))
        current_context()->fault = plan->result;
    return plan->result;
}

CUresult enter(emulated_call call, bool needs_context)
{
    const CUresult planned = count(call);
    if (planned != CUDA_SUCCESS)
        return planned;
    if (!initialised && call != EMULATED_CALL_Init)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!needs_context)
        return CUDA_SUCCESS;
    context *own = current_context();
    if (!own || own->retained == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    return own->fault;
}

#define ENTER(name, needs_context)                                                                 \
    std::lock_guard<std::recursive_mutex> lock(mutex);                                             \
    do {                                                                                           \
        const CUresult entered = enter(EMULATED_CALL_##name, needs_context);                       \
        if (entered != CUDA_SUCCESS)                                                               \
            return entered;                                                                        \
    } while (0)

// What a thread may not do while it captures: allocate, and ask or wait for what runs.
#define REFUSE_CAPTURE()                                                                           \
    do {                                                                                           \
        if (captures > 0)                                                                          \
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;                                          \
    } while (0)

// Of what releases: it does, whatever it then says.
#define LEAVE(name, result)                                                                        \
    do {                                                                                           \
        const CUresult planned = count(EMULATED_CALL_##name);                                      \
        return planned != CUDA_SUCCESS ? planned : (result);                                       \
    } while (0)

void note(const char *what)
{
    if (driver.notes) {
        driver.notes(what);
        return;
    }
    fprintf(stderr, "emulated driver: %s\n", what);
    abort();
}

template <class T> T or_else(T value, T otherwise)
{
    return value ? value : otherwise;
}

int device_count()
{
    return driver.device.devices < 0 ? 0 : or_else(driver.device.devices, 1);
}

uint64_t memory_size()
{
    return or_else(driver.device.memory, (uint64_t)64 << 30);
}

// ---- memory

bool is_inside(const context *own, CUdeviceptr address, size_t size)
{
    auto next = own->memory.upper_bound(address);
    if (next == own->memory.begin())
        return false;
    auto found = std::prev(next);
    return address + size <= found->first + found->second;
}

bool is_pinned(const context *own, const void *bytes, size_t size)
{
    auto next = own->pinned.upper_bound((void *)bytes);
    if (next == own->pinned.begin())
        return false;
    auto found = std::prev(next);
    return (const char *)bytes + size <= (const char *)found->first + found->second;
}

void check_guard(const char *guard, const char *which)
{
    for (int i = 0; i < GUARD; i++)
        if ((unsigned char)guard[i] != 0xa5)
            return note(which);
}

// ---- streams

stream *stream_of(CUstream handle)
{
    return handle ? (stream *)handle : &null_streams[current_context() - contexts];
}

// Runs what waits, up to so many operations; whatever fails first is the context's from then on.
void run(stream *own, size_t most)
{
    while (!own->waiting.empty() && most-- > 0 && own->of->fault == CUDA_SUCCESS) {
        operation next = own->waiting.front();
        own->waiting.pop_front();
        device_time += 1000;
        CUresult result = next.run();
        if (result != CUDA_SUCCESS)
            own->of->fault = result;
    }
}

CUresult finish(stream *own)
{
    run(own, SIZE_MAX);
    return own->of->fault;
}

// Memory is released when nothing runs any more that may use it.
void settle(context *own)
{
    for (stream *one : own->streams)
        finish(one);
    finish(&null_streams[own - contexts]);
}

CUresult record(CUstream handle, std::function<CUresult()> work)
{
    stream *own = stream_of(handle);
    if (own->captured) {
        own->captured->push_back({work});
        return CUDA_SUCCESS;
    }
    own->waiting.push_back({work});
    return driver.device.eager ? finish(own) : CUDA_SUCCESS;
}

// ---- kernels

struct kernel_table {
    std::vector<emulated_kernel *> items;

    kernel_table()
    {
        for (emulated_kernels part :
             {emulated_append_kernels(), emulated_estimate_kernels(), emulated_select_kernels(),
              emulated_attend_kernels(), emulated_prefill_kernels()})
            for (size_t i = 0; i < part.count; i++)
                items.push_back(&part.items[i]);
    }

    // What ran how often, for the test that looks whether all did.
    ~kernel_table()
    {
        const char *path = getenv("SKIM_EMULATED_KERNELS");
        FILE *file = path ? fopen(path, "a") : NULL;
        for (size_t i = 0; i < items.size() && file; i++)
            fprintf(file, "%s %llu\n", items[i]->name, (unsigned long long)items[i]->launches);
        if (file)
            fclose(file);
    }
};

kernel_table &kernels()
{
    static kernel_table table;
    return table;
}

} // namespace

static const char *name_of(emulated_call call)
{
    static const char *const names[] = {
#define NAME(name) "cu" #name,
        SKIM_CUDA_FUNCTIONS(NAME)
#undef NAME
    };
    return names[call];
}

static void reset(const emulated_plan *plan)
{
    driver.plan = *plan;
    memset(driver.calls, 0, sizeof driver.calls);
}

static void forget()
{
    for (context &own : contexts)
        own = context();
    current.clear();
    driver.objects = driver.contexts = driver.current = 0;
}

EXPORT emulated_driver *skim_emulated_driver(void)
{
    driver.forget = forget;
    driver.name = name_of;
    driver.reset = reset;
    return &driver;
}

// ---- the driver and its devices

EXPORT CUresult cuInit(unsigned int flags)
{
    (void)flags;
    ENTER(Init, false);
    if (device_count() == 0)
        return CUDA_ERROR_NO_DEVICE;
    initialised = true;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
    const CUresult planned = count(EMULATED_CALL_DriverGetVersion);
    if (planned != CUDA_SUCCESS)
        return planned;
    *version = or_else(driver.device.version, CUDA_VERSION);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **name)
{
    static const std::map<int, const char *> names = {
        {CUDA_SUCCESS, "CUDA_SUCCESS"},
        {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
    };
    auto found = names.find(error);
    *name = found == names.end() ? NULL : found->second;
    return found == names.end() ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count)
{
    ENTER(DeviceGetCount, false);
    *count = device_count();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    ENTER(DeviceGet, false);
    if (ordinal < 0 || ordinal >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    ENTER(DeviceGetName, false);
    snprintf(name, (size_t)length, "emulated GPU %d of Skim's tests", device);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    ENTER(DeviceGetUuid, false);
    memset(uuid->bytes, 0x5e, sizeof uuid->bytes);
    uuid->bytes[0] = (char)device;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    (void)device;
    ENTER(DeviceGetAttribute, false);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = or_else(driver.device.capability, 90) / 10;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = or_else(driver.device.capability, 90) % 10;
        break;
    default:
        *value = 0;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    (void)device;
    ENTER(DeviceTotalMem, false);
    *bytes = memory_size();
    return CUDA_SUCCESS;
}

// ---- contexts

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *handle, CUdevice device)
{
    ENTER(DevicePrimaryCtxRetain, false);
    context *own = &contexts[device];
    if (own->retained++ == 0) {
        own->device = device;
        own->fault = CUDA_SUCCESS;
        null_streams[device].of = own;
        null_streams[device].waiting.clear();
        driver.contexts++;
    }
    *handle = (CUcontext)own;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    context *own = &contexts[device];
    if (own->retained == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (--own->retained == 0)
        driver.contexts--;
    LEAVE(DevicePrimaryCtxRelease, CUDA_SUCCESS);
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
    ENTER(CtxPushCurrent, false);
    current.push_back(handle);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *handle)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (current.empty())
        return CUDA_ERROR_INVALID_CONTEXT;
    *handle = current.back();
    current.pop_back();
    LEAVE(CtxPopCurrent, CUDA_SUCCESS);
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device)
{
    ENTER(CtxGetDevice, true);
    *device = current_context()->device;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *handle)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    *handle = current.empty() ? NULL : current.back();
    return CUDA_SUCCESS;
}

// ---- memory

EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
    ENTER(MemGetInfo, true);
    *total = memory_size();
    *available = memory_size() - current_context()->allocated;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size)
{
    ENTER(MemAlloc, true);
    REFUSE_CAPTURE();
    context *own = current_context();
    if (size == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (size > memory_size() - own->allocated)
        return CUDA_ERROR_OUT_OF_MEMORY;
    const size_t whole = 2 * GUARD + (size + GUARD - 1) / GUARD * GUARD;
    // What is large is there when it is touched, and zero: far addresses cost nothing.
    void *memory = size < SPARSE_MIN ? aligned_alloc(GUARD, whole)
                                     : mmap(NULL, whole, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!memory || memory == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    char *begin = (char *)memory + GUARD;
    memset(begin - GUARD, 0xa5, GUARD);
    if (size < SPARSE_MIN)
        memset(begin, 0xff, size); // NaN
    memset(begin + size, 0xa5, GUARD);
    *address = (CUdeviceptr)begin;
    own->memory[*address] = size;
    own->allocated += size;
    driver.objects++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    // Memory that is released is gone, whatever else is wrong.
    context *own = current_context();
    auto found = own ? own->memory.find(address) : std::map<CUdeviceptr, size_t>::iterator();
    if (!own || found == own->memory.end())
        return CUDA_ERROR_INVALID_VALUE;
    settle(own);
    char *memory = (char *)address - GUARD;
    check_guard(memory, "something was written before memory of the device");
    check_guard((char *)address + found->second, "something was written past memory of the device");
    const size_t size = found->second;
    own->allocated -= size;
    own->memory.erase(found);
    driver.objects--;
    if (size < SPARSE_MIN)
        free(memory);
    else
        munmap(memory, 2 * GUARD + (size + GUARD - 1) / GUARD * GUARD);
    LEAVE(MemFree, own->fault);
}

EXPORT CUresult cuMemHostAlloc(void **bytes, size_t size, unsigned int flags)
{
    (void)flags;
    ENTER(MemHostAlloc, true);
    REFUSE_CAPTURE();
    *bytes = malloc(size);
    if (!*bytes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(*bytes, 0xff, size);
    current_context()->pinned[*bytes] = size;
    driver.objects++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFreeHost(void *bytes)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    context *own = current_context();
    if (!own || own->pinned.count(bytes) == 0)
        return CUDA_ERROR_INVALID_VALUE;
    settle(own);
    own->pinned.erase(bytes);
    driver.objects--;
    free(bytes);
    LEAVE(MemFreeHost, own->fault);
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, CUstream stream)
{
    ENTER(MemcpyHtoDAsync, true);
    context *own = current_context();
    if (!is_inside(own, to, size) && to != (CUdeviceptr)&skim_device_mutant)
        return CUDA_ERROR_INVALID_VALUE;
    // From memory that is not pinned a driver copies at once.
    if (is_pinned(own, from, size))
        return record(stream, [=] { return memcpy((void *)to, from, size), CUDA_SUCCESS; });
    auto kept = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + size);
    return record(stream, [=] { return memcpy((void *)to, kept->data(), size), CUDA_SUCCESS; });
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, CUstream stream)
{
    ENTER(MemcpyDtoHAsync, true);
    context *own = current_context();
    if (!is_inside(own, from, size) || !is_pinned(own, to, size))
        return CUDA_ERROR_INVALID_VALUE;
    return record(stream, [=] { return memcpy(to, (void *)from, size), CUDA_SUCCESS; });
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream)
{
    ENTER(MemcpyDtoDAsync, true);
    context *own = current_context();
    if (!is_inside(own, from, size) || !is_inside(own, to, size))
        return CUDA_ERROR_INVALID_VALUE;
    return record(stream, [=] { return memmove((void *)to, (void *)from, size), CUDA_SUCCESS; });
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream)
{
    ENTER(MemsetD8Async, true);
    if (!is_inside(current_context(), to, size))
        return CUDA_ERROR_INVALID_VALUE;
    return record(stream, [=] { return memset((void *)to, value, size), CUDA_SUCCESS; });
}

// ---- streams and events

EXPORT CUresult cuStreamCreate(CUstream *handle, unsigned int flags)
{
    (void)flags;
    ENTER(StreamCreate, true);
    stream *made = new stream();
    made->of = current_context();
    made->of->streams.insert(made);
    *handle = (CUstream)made;
    driver.objects++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy_v2(CUstream handle)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    stream *own = stream_of(handle);
    finish(own);
    driver.objects--;
    own->of->streams.erase(own);
    delete own;
    LEAVE(StreamDestroy, CUDA_SUCCESS);
}

EXPORT CUresult cuStreamSynchronize(CUstream handle)
{
    ENTER(StreamSynchronize, true);
    REFUSE_CAPTURE();
    return finish(stream_of(handle));
}

EXPORT CUresult cuEventCreate(CUevent *handle, unsigned int flags)
{
    ENTER(EventCreate, true);
    event *made = new event();
    made->timed = !(flags & CU_EVENT_DISABLE_TIMING);
    *handle = (CUevent)made;
    driver.objects++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(CUevent handle)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    event *own = (event *)handle;
    if (own->in)
        finish(own->in);
    driver.objects--;
    delete own;
    LEAVE(EventDestroy, CUDA_SUCCESS);
}

EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream)
{
    ENTER(EventRecord, true);
    event *own = (event *)handle;
    const uint64_t number = ++own->recorded;
    own->in = stream_of(stream);
    return record(stream, [=] {
        own->done = number;
        own->time = device_time;
        return CUDA_SUCCESS;
    });
}

// Asking takes the work a little further.
EXPORT CUresult cuEventQuery(CUevent handle)
{
    ENTER(EventQuery, true);
    REFUSE_CAPTURE();
    event *own = (event *)handle;
    if (own->done < own->recorded)
        run(own->in, 3);
    if (current_context()->fault != CUDA_SUCCESS)
        return current_context()->fault;
    return own->done < own->recorded ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

EXPORT CUresult cuEventSynchronize(CUevent handle)
{
    ENTER(EventSynchronize, true);
    REFUSE_CAPTURE();
    event *own = (event *)handle;
    while (own->done < own->recorded && current_context()->fault == CUDA_SUCCESS)
        run(own->in, 1);
    return current_context()->fault;
}

EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent begin, CUevent end)
{
    ENTER(EventElapsedTime, true);
    const event *first = (event *)begin, *second = (event *)end;
    if (!first->timed || !second->timed || first->recorded == 0 || second->recorded == 0)
        return CUDA_ERROR_INVALID_HANDLE;
    if (first->done < first->recorded || second->done < second->recorded)
        return CUDA_ERROR_NOT_READY;
    *milliseconds = (float)((second->time - first->time) * 1e-6);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned int flags)
{
    (void)flags;
    ENTER(StreamWaitEvent, true);
    event *own = (event *)handle;
    const uint64_t number = own->recorded;
    return record(stream, [=] {
        while (own->done < number && own->in->of->fault == CUDA_SUCCESS)
            run(own->in, 1);
        return own->in ? own->in->of->fault : CUDA_SUCCESS;
    });
}

// ---- graphs: what was recorded, once more

EXPORT CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
    ENTER(StreamIsCapturing, true);
    *status = stream_of(handle)->captured ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                          : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode)
{
    (void)mode;
    std::lock_guard<std::recursive_mutex> lock(mutex);
    stream_of(handle)->captured = new std::vector<operation>();
    captures++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *made)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    stream *own = stream_of(handle);
    if (!own->captured)
        return CUDA_ERROR_ILLEGAL_STATE;
    *made = (CUgraph) new graph{*own->captured};
    delete own->captured;
    own->captured = NULL;
    captures--;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph of,
                                            unsigned long long flags)
{
    (void)flags;
    *executable = (CUgraphExec) new graph(*(graph *)of);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    for (const operation &one : ((graph *)executable)->operations)
        record(stream, one.run);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph of)
{
    delete (graph *)of;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec of)
{
    delete (graph *)of;
    return CUDA_SUCCESS;
}

// ---- modules

EXPORT CUresult cuModuleLoadData(CUmodule *handle, const void *image)
{
    ENTER(ModuleLoadData, true);
    uint32_t magic;
    memcpy(&magic, image, sizeof magic);
    if (magic != 0xba55ed50) // of a fatbin
        return CUDA_ERROR_INVALID_IMAGE;
    module *made = new module();
    made->of = current_context();
    *handle = (CUmodule)made;
    skim_device_mutant = 0;
    driver.objects++;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(CUmodule handle)
{
    std::lock_guard<std::recursive_mutex> lock(mutex);
    driver.objects--;
    delete (module *)handle;
    LEAVE(ModuleUnload, CUDA_SUCCESS);
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name)
{
    (void)handle;
    ENTER(ModuleGetFunction, true);
    for (emulated_kernel *kernel : kernels().items) {
        if (strcmp(kernel->name, name) == 0) {
            *function = (CUfunction)kernel;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *size, CUmodule handle,
                                     const char *name)
{
    (void)handle;
    ENTER(ModuleGetGlobal, true);
    if (strcmp(name, "skim_device_mutant") != 0)
        return CUDA_ERROR_NOT_FOUND;
    *address = (CUdeviceptr)&skim_device_mutant;
    *size = sizeof skim_device_mutant;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    (void)attribute;
    (void)function;
    ENTER(FuncGetAttribute, true);
    *value = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int x, unsigned int y, unsigned int z,
                               unsigned int threads_x, unsigned int threads_y,
                               unsigned int threads_z, unsigned int shared, CUstream stream,
                               void **parameters, void **extra)
{
    ENTER(LaunchKernel, true);
    if (!x || !y || !z || x > 0x7fffffff || y > 65535 || z > 65535 || threads_y != 1 ||
        threads_z != 1 || !threads_x || threads_x > 1024 || shared > 48 * 1024 || extra)
        return CUDA_ERROR_INVALID_VALUE;
    emulated_kernel *kernel = (emulated_kernel *)function;
    auto argument = std::make_shared<std::vector<uint64_t>>((kernel->argument_size + 7) / 8);
    memcpy(argument->data(), parameters[0], kernel->argument_size);
    return record(stream, [=] {
        kernel->launches++;
        const char *fault =
            emulated_run({{x, y, z}, threads_x, shared, kernel->run, argument->data()});
        if (!fault)
            return CUDA_SUCCESS;
        fprintf(stderr, "emulated driver: %s: %s\n", kernel->name, fault);
        return CUDA_ERROR_LAUNCH_FAILED;
    });
}
