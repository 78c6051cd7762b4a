// A queue's scratch, and what a shape needs before its verbs can be recorded.
#include "backends/opencl/queue.h"

uint64_t skim_opencl_scratch_size(const skim_device *base, const skim_shape *shape)
{
    const skim_opencl_device *device = skim_opencl_device_of(base);
    const uint64_t lists = (uint64_t)shape->max_rows * shape->q_heads;
    const uint64_t attend = skim_gpu_attend_scratch(shape, skim_opencl_parts_wanted(device, shape));
    const uint64_t select =
        shape->max_pages > SKIM_OPENCL_NEAR_KEYS ? lists * shape->max_pages * sizeof(uint32_t) : 0;
    return select > attend ? select : attend; // one after the other
}

static skim_status grow_scratch(skim_opencl_queue *queue, const skim_shape *shape)
{
    skim_device *device = queue->device->base;
    uint64_t size = skim_opencl_scratch_size(device, shape);
    if (size <= queue->scratch_size)
        return SKIM_OK;
    cl_mem grown;
    skim_status status = skim_opencl_piece_create(device, size, &queue->base->error, &grown);
    if (status != SKIM_OK)
        return status;
    skim_opencl_piece_destroy(queue->device, queue->scratch, queue->scratch_size);
    queue->scratch = grown;
    queue->scratch_size = size;
    return SKIM_OK;
}

static bool is_needed(const skim_opencl_device *device, const skim_shape *shape,
                      skim_opencl_kernel kernel, skim_select_mode select)
{
    switch (kernel) {
    case SKIM_OPENCL_CENTRE:
        return shape->bounds_type == SKIM_BOUNDS_I8;
    case SKIM_OPENCL_MERGE:
        return skim_opencl_parts(device, shape) > 1;
    case SKIM_OPENCL_PREFILL:
        return shape->max_tokens > 1 && select == SKIM_SELECT_GROUP;
    default:
        return true;
    }
}

// Whether buffers of so many slots can be in several pieces.
static bool can_be_split(const skim_opencl_device *device, const skim_shape *shape)
{
    uint64_t tokens = (uint64_t)shape->slots * shape->kv_heads * shape->page_size;
    uint64_t token = ((uint64_t)shape->key_dim + shape->value_dim) * skim_type_size(shape->type);
    const uint64_t size = (uint64_t)1 << device->chunk_shift;
    return tokens > size / token || skim_gpu_bounds_size(device->base, shape) > size;
}

// Every kernel that verbs of the shape can take, on buffers in one piece or in several.
static skim_status build(skim_opencl_queue *queue, const skim_shape *shape, bool split)
{
    const skim_opencl_device *device = queue->device;
    for (int kernel = 0; kernel < SKIM_OPENCL_KERNELS; kernel++) {
        for (int select = SKIM_SELECT_HEAD; select <= SKIM_SELECT_GROUP; select++) {
            if (!is_needed(device, shape, (skim_opencl_kernel)kernel, (skim_select_mode)select))
                continue;
            skim_opencl_constants constants = skim_opencl_constants_of(
                device, shape, (skim_opencl_kernel)kernel, (skim_select_mode)select);
            if (split && kernel != SKIM_OPENCL_SELECT)
                constants.chunk_shift = device->chunk_shift;
            skim_status status = skim_opencl_warm_up(queue, (skim_opencl_kernel)kernel, &constants);
            if (status != SKIM_OK)
                return status;
        }
    }
    return SKIM_OK;
}

skim_status skim_opencl_queue_prepare(skim_backend_queue *base, const skim_shape *shape)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    skim_status status = grow_scratch(queue, shape);
    if (status == SKIM_OK)
        status = build(queue, shape, false);
    if (status == SKIM_OK && can_be_split(queue->device, shape))
        status = build(queue, shape, true);
    if (status == SKIM_OK)
        skim_opencl_programs_save(queue->device);
    return status;
}
