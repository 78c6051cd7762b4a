// The host's own context, device, queue, buffers and events.
#include "backends/opencl/queue.h"

#include <inttypes.h>

enum { CONTEXT_DEVICES_MAX = 64 };

static bool has_device(const skim_opencl_functions *cl, cl_context context, cl_device_id device)
{
    cl_device_id devices[CONTEXT_DEVICES_MAX];
    size_t size = 0;
    if (cl->GetContextInfo(context, CL_CONTEXT_DEVICES, sizeof devices, devices, &size) !=
        CL_SUCCESS)
        return false;
    for (size_t i = 0; i < size / sizeof *devices && i < CONTEXT_DEVICES_MAX; i++)
        if (devices[i] == device)
            return true;
    return false;
}

static skim_status import_queue(skim_opencl_device *device, cl_command_queue queue,
                                skim_error *error)
{
    const skim_opencl_functions *cl = &device->cl;
    cl_context context = NULL;
    cl_device_id handle = NULL;
    cl_bitfield properties = 0;
    cl_int result =
        cl->GetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL);
    if (result == CL_SUCCESS)
        result = cl->GetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof handle, &handle, NULL);
    if (result == CL_SUCCESS)
        result = cl->GetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties,
                                         NULL);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(NULL, error, result, "clGetCommandQueueInfo");
    if (context != device->context || handle != device->handle)
        return skim_fail(error, SKIM_INVALID,
                         "the queue of the host's is not of its context and device");
    result = cl->RetainCommandQueue(queue);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(NULL, error, result, "clRetainCommandQueue");
    device->shared = queue;
    device->unordered = (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
    device->profiles = (properties & CL_QUEUE_PROFILING_ENABLE) != 0;
    return SKIM_OK;
}

skim_status skim_opencl_import(skim_opencl_device *device, const skim_opencl_options *options,
                               skim_error *error)
{
    if (!has_device(&device->cl, options->context, options->device))
        return skim_fail(error, SKIM_INVALID, "the device is not one of the host's context");
    cl_int result = device->cl.RetainContext(options->context);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(NULL, error, result, "clRetainContext");
    device->context = options->context;
    device->handle = options->device;
    return options->queue ? import_queue(device, options->queue, error) : SKIM_OK;
}

skim_status skim_opencl_buffer_wrap_handle(skim_buffer *buffer, uint64_t handle)
{
    skim_device *base = buffer->device;
    skim_opencl_device *device = skim_opencl_device_of(base);
    const skim_opencl_functions *cl = &device->cl;
    cl_mem memory = (cl_mem)(uintptr_t)handle;
    cl_uint type = 0;
    cl_context context = NULL;
    size_t size = 0;
    cl_int result = cl->GetMemObjectInfo(memory, CL_MEM_TYPE, sizeof type, &type, NULL);
    if (result == CL_SUCCESS)
        result = cl->GetMemObjectInfo(memory, CL_MEM_CONTEXT, sizeof context, &context, NULL);
    if (result == CL_SUCCESS)
        result = cl->GetMemObjectInfo(memory, CL_MEM_SIZE, sizeof size, &size, NULL);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(base, &base->error, result, "clGetMemObjectInfo");
    if (type != CL_MEM_OBJECT_BUFFER || context != device->context)
        return skim_fail(&base->error, SKIM_INVALID,
                         "the cl_mem to wrap is no buffer, or not of the device's context");
    if (buffer->size > size)
        return skim_fail(&base->error, SKIM_INVALID,
                         "the buffer to wrap has %zu bytes, not %" PRIu64, size, buffer->size);
    skim_opencl_buffer *made = skim_allocate(base->host, sizeof *made);
    if (!made)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    result = cl->RetainMemObject(memory);
    if (result != CL_SUCCESS) {
        skim_release(base->host, made, sizeof *made);
        return skim_opencl_fail(base, &base->error, result, "clRetainMemObject");
    }
    made->count = 1;
    made->wrapped = true;
    made->pieces[0] = memory;
    made->sizes[0] = buffer->size;
    buffer->impl = made;
    return SKIM_OK;
}

// ---- events

skim_status skim_opencl_queue_wait_for(skim_backend_queue *base, uint64_t handle, uint64_t value,
                                       bool signals)
{
    (void)value, (void)signals;
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    const skim_opencl_order order = skim_opencl_order_of(queue);
    cl_event events[2] = {(cl_event)(uintptr_t)handle};
    if (order.count > 0)
        events[1] = order.events[0];
    cl_int result = queue->device->cl.EnqueueBarrierWithWaitList(queue->handle, 1 + order.count,
                                                                 events, order.event);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(base->device, &base->error, result, "clEnqueueBarrierWithWaitList");
    skim_opencl_enqueued(queue);
    return SKIM_OK;
}

skim_status skim_opencl_queue_event(skim_backend_queue *base, uint64_t *handle)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    cl_event event;
    skim_status status = skim_opencl_record_marker(queue, &event);
    if (status != SKIM_OK)
        return status;
    queue->recorded = true;
    *handle = (uint64_t)(uintptr_t)event;
    return SKIM_OK;
}
