#include "backends/vulkan/queue.h"

#include <string.h>

skim_status skim_vulkan_append(skim_backend_queue *base, const skim_append_args *args)
{
    skim_vulkan_queue *queue = skim_vulkan_queue_of(base);
    const skim_shape *shape = args->shape;
    skim_gpu_append_push push;
    skim_gpu_operand operands[SKIM_GPU_APPEND_OPERANDS];
    skim_vulkan_constants constants = skim_vulkan_constants_of(queue->device, shape);
    skim_status status = skim_gpu_describe_append(args, &base->error, &push, operands);
    if (status == SKIM_OK)
        status = skim_vulkan_locate_operands(queue, operands, SKIM_GPU_APPEND_OPERANDS, &constants,
                                             &push);
    if (status != SKIM_OK)
        return status;

    uint32_t flags = SKIM_APPEND_STORE;
    if (push.k && skim_gpu_is_of_units(push.k, &args->k) && skim_gpu_is_of_units(push.v, &args->v))
        flags |= SKIM_APPEND_UNITS;
    bool freezes = skim_gpu_freezes(args);
    push.flags = freezes ? flags : flags | SKIM_APPEND_BOUNDS;
    skim_vulkan_dispatch dispatch = {
        .kernel = SKIM_VULKAN_APPEND,
        .constants = &constants,
        .push = &push,
        .push_size = sizeof push,
        .groups = {skim_gpu_touched_pages(args), shape->kv_heads, args->row_count},
    };
    status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    if (status != SKIM_OK || !freezes)
        return status;

    // The bounds need the centre, and the centre all of the keys.
    skim_gpu_append_push centre = push;
    centre.slots = args->row_count;
    skim_vulkan_dispatch mean = dispatch;
    mean.kernel = SKIM_VULKAN_CENTRE;
    mean.push = &centre;
    memcpy(mean.groups, (uint32_t[]){shape->kv_heads, 1, 1}, sizeof mean.groups);
    status = skim_vulkan_record_dispatch(queue, &mean, true);
    push.flags = SKIM_APPEND_BOUNDS;
    if (status == SKIM_OK)
        status = skim_vulkan_record_dispatch(queue, &dispatch, true);
    return status;
}
