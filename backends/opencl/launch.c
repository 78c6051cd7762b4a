// Kernels' arguments and launches.
#include "backends/opencl/queue.h"

#include <inttypes.h>
#include <string.h>

static bool is_split(const skim_gpu_operand *operand)
{
    return operand->units && skim_opencl_buffer_of(operand->buffer)->count > 1;
}

// Bytes of a buffer that lie in one piece, as a memory and a byte of it.
static skim_status locate(skim_opencl_queue *queue, const skim_gpu_operand *operand, cl_mem *memory,
                          uint64_t *at)
{
    const skim_opencl_buffer *own = skim_opencl_buffer_of(operand->buffer);
    const uint32_t shift = queue->device->chunk_shift;
    const uint64_t piece = own->count > 1 ? operand->offset >> shift : 0;
    const uint64_t end = operand->offset + operand->bytes;
    if (own->count > 1 && operand->bytes > 0 && (end - 1) >> shift != piece)
        return skim_fail(&queue->base->error, SKIM_UNSUPPORTED,
                         "%s lies across two allocations of a buffer of %" PRIu64
                         " bytes (of at most %" PRIu64 " each); keep it in a buffer of its own",
                         operand->name, operand->buffer->size, (uint64_t)1 << shift);
    *memory = own->pieces[piece];
    *at = operand->offset - (piece << shift);
    return SKIM_OK;
}

skim_status skim_opencl_locate_operands(skim_opencl_queue *queue, const skim_gpu_operand *operands,
                                        uint32_t count, skim_opencl_launch *launch, void *push)
{
    uint64_t addresses[SKIM_GPU_OPERANDS_MAX];
    bool split = false;
    for (uint32_t i = 0; i < count; i++)
        split = split || is_split(&operands[i]);
    launch->constants.chunk_shift = split ? queue->device->chunk_shift : 0;
    launch->memory_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const skim_gpu_operand *operand = &operands[i];
        cl_mem *memories = launch->memories + launch->memory_count;
        addresses[i] = operand->buffer ? operand->offset : UINT64_MAX;
        if (operand->units) {
            const skim_opencl_buffer *own = skim_opencl_buffer_of(operand->buffer);
            if (split && own->count == 1 &&
                operand->buffer->size >> queue->device->chunk_shift > 0 &&
                operand->buffer->size != (uint64_t)1 << queue->device->chunk_shift)
                return skim_fail(&queue->base->error, SKIM_UNSUPPORTED,
                                 "%s lie in one piece of %" PRIu64
                                 " bytes and other tensors of the "
                                 "call in several of %" PRIu64 "; keep them alike",
                                 operand->name, operand->buffer->size,
                                 (uint64_t)1 << queue->device->chunk_shift);
            const uint32_t pieces = split ? SKIM_OPENCL_PIECES_MAX : 1;
            for (uint32_t p = 0; p < pieces; p++)
                memories[p] = p < own->count ? own->pieces[p] : queue->device->nothing;
            launch->memory_count += pieces;
            continue;
        }
        launch->memory_count++;
        memories[0] = queue->device->nothing;
        skim_status status =
            operand->buffer ? locate(queue, operand, memories, &addresses[i]) : SKIM_OK;
        if (status != SKIM_OK)
            return status;
    }
    memcpy(push, addresses, count * sizeof *addresses);
    return SKIM_OK;
}

// ---- kernel objects

static skim_opencl_function *find(const skim_opencl_queue *queue, skim_opencl_kernel kernel,
                                  const skim_opencl_constants *constants)
{
    for (uint32_t i = 0; i < queue->function_count; i++) {
        skim_opencl_function *function = &queue->functions[i];
        if (function->kernel == kernel &&
            memcmp(&function->constants, constants, sizeof *constants) == 0)
            return function;
    }
    return NULL;
}

static skim_status get_function(skim_opencl_queue *queue, skim_opencl_kernel kernel,
                                const skim_opencl_constants *constants,
                                skim_opencl_function **function)
{
    skim_opencl_device *device = queue->device;
    *function = find(queue, kernel, constants);
    if (*function)
        return SKIM_OK;
    cl_program program;
    skim_status status =
        skim_opencl_program_get(device, kernel, constants, &queue->base->error, &program);
    if (status != SKIM_OK)
        return status;
    skim_opencl_function *functions =
        skim_gpu_grow(device->base->host, queue->functions, queue->function_count,
                      &queue->function_capacity, sizeof *functions);
    if (!functions)
        return skim_fail(&queue->base->error, SKIM_NO_MEMORY, "no host memory for a kernel");
    queue->functions = functions;
    cl_int result = CL_SUCCESS;
    cl_kernel handle = device->cl.CreateKernel(program, skim_opencl_kernel_name(kernel), &result);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(device->base, &queue->base->error, result, "clCreateKernel");
    *function = &queue->functions[queue->function_count++];
    **function =
        (skim_opencl_function){.kernel = kernel, .constants = *constants, .handle = handle};
    return SKIM_OK;
}

// ---- launches

static cl_int set_arguments(const skim_opencl_functions *cl, cl_kernel kernel,
                            const skim_opencl_launch *launch)
{
    cl_uint index = 0;
    cl_int result = CL_SUCCESS;
    for (uint32_t i = 0; i < launch->memory_count && result == CL_SUCCESS; i++)
        result = cl->SetKernelArg(kernel, index++, sizeof(cl_mem), &launch->memories[i]);
    if (result == CL_SUCCESS)
        result = cl->SetKernelArg(kernel, index++, launch->push_size, launch->push);
    for (uint32_t i = 0; i < launch->word_count && result == CL_SUCCESS; i++)
        result = cl->SetKernelArg(kernel, index++, sizeof(uint32_t), &launch->words[i]);
    return result;
}

static cl_int enqueue(skim_opencl_queue *queue, cl_kernel kernel, const skim_opencl_launch *launch)
{
    const size_t threads = queue->device->threads;
    const size_t first[3] = {launch->first * threads, 0, 0};
    const size_t local[3] = {threads, 1, 1};
    const size_t global[3] = {launch->groups[0] * threads, launch->groups[1], launch->groups[2]};
    const skim_opencl_order order = skim_opencl_order_of(queue);
    cl_int result = queue->device->cl.EnqueueNDRangeKernel(
        queue->handle, kernel, 3, first, global, local, order.count, order.events, order.event);
    if (result == CL_SUCCESS)
        skim_opencl_enqueued(queue);
    return result;
}

skim_status skim_opencl_record_launch(skim_opencl_queue *queue, const skim_opencl_launch *launch)
{
    skim_opencl_device *device = queue->device;
    skim_opencl_function *function;
    skim_status status = get_function(queue, launch->kernel, &launch->constants, &function);
    if (status != SKIM_OK)
        return status;
    cl_int result = set_arguments(&device->cl, function->handle, launch);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(device->base, &queue->base->error, result, "clSetKernelArg");
    result = enqueue(queue, function->handle, launch);
    if (result != CL_SUCCESS)
        return skim_opencl_fail(device->base, &queue->base->error, result,
                                "clEnqueueNDRangeKernel");
    queue->base->counts.dispatches++;
    queue->base->counts.workgroups +=
        (uint64_t)launch->groups[0] * launch->groups[1] * launch->groups[2];
    return SKIM_OK;
}

// Memories that a kernel takes: each of its operands, some of them in pieces.
static uint32_t count_memories(skim_opencl_kernel kernel, bool split)
{
    static const struct {
        uint32_t operands, units;
    } of[SKIM_OPENCL_KERNELS] = {
        [SKIM_OPENCL_APPEND] = {SKIM_GPU_APPEND_OPERANDS, 3},
        [SKIM_OPENCL_CENTRE] = {SKIM_GPU_APPEND_OPERANDS, 3},
        [SKIM_OPENCL_ESTIMATE] = {SKIM_GPU_ESTIMATE_OPERANDS, 1},
        [SKIM_OPENCL_SELECT] = {SKIM_GPU_SELECT_OPERANDS, 0},
        [SKIM_OPENCL_ATTEND] = {SKIM_GPU_ATTEND_OPERANDS, 2},
        [SKIM_OPENCL_MERGE] = {SKIM_GPU_ATTEND_OPERANDS, 2},
        [SKIM_OPENCL_PREFILL] = {SKIM_GPU_ATTEND_OPERANDS, 2},
    };
    return of[kernel].operands + (split ? of[kernel].units * (SKIM_OPENCL_PIECES_MAX - 1) : 0);
}

static size_t push_size_of(skim_opencl_kernel kernel)
{
    switch (kernel) {
    case SKIM_OPENCL_APPEND:
    case SKIM_OPENCL_CENTRE:
        return sizeof(skim_gpu_append_push);
    case SKIM_OPENCL_ESTIMATE:
        return sizeof(skim_gpu_estimate_push);
    case SKIM_OPENCL_SELECT:
        return sizeof(skim_gpu_select_push);
    default:
        return sizeof(skim_opencl_attend_push);
    }
}

skim_status skim_opencl_warm_up(skim_opencl_queue *queue, skim_opencl_kernel kernel,
                                const skim_opencl_constants *constants)
{
    static const char zeros[sizeof(skim_opencl_attend_push)];
    skim_opencl_device *device = queue->device;
    skim_opencl_function *function;
    skim_status status = get_function(queue, kernel, constants, &function);
    if (status != SKIM_OK || function->ran)
        return status;
    skim_opencl_launch launch = {
        .kernel = kernel,
        .memory_count = count_memories(kernel, constants->chunk_shift > 0),
        .push = zeros,
        .push_size = push_size_of(kernel),
        .words = {0, 1, 1}, // no rows
        .word_count = skim_opencl_word_count(kernel),
        .groups = {1, 1, 1},
    };
    for (uint32_t i = 0; i < launch.memory_count; i++)
        launch.memories[i] = device->nothing;
    cl_int result = set_arguments(&device->cl, function->handle, &launch);
    if (result == CL_SUCCESS)
        result = enqueue(queue, function->handle, &launch);
    if (result == CL_SUCCESS)
        result = device->cl.Finish(queue->handle);
    queue->recorded = false; // nothing else is in flight when a queue is prepared
    if (result != CL_SUCCESS)
        return skim_opencl_fail(device->base, &queue->base->error, result,
                                "the first launch of a kernel");
    function->ran = true;
    return SKIM_OK;
}
