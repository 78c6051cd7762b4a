#include "backends/vulkan/vulkan.h"

#include <inttypes.h>
#include <string.h>

uint32_t skim_vulkan_main_heap(const VkPhysicalDeviceMemoryProperties *memory)
{
    uint32_t best = 0;
    bool found = false;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++) {
        if (!(memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
            continue;
        if (!found || memory->memoryHeaps[i].size > memory->memoryHeaps[best].size)
            best = i;
        found = true;
    }
    return best;
}

uint64_t skim_vulkan_memory_available(const skim_device *base)
{
    skim_vulkan_device *device = skim_vulkan_device_of(base);
    uint32_t heap = skim_vulkan_main_heap(&device->memory);
    uint64_t size = device->memory.memoryHeaps[heap].size;
    uint64_t held = atomic_load(&device->held);
    uint64_t available = held < size ? size - held : 0;
    if (!device->has_budget)
        return available;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 properties = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    device->instance.GetPhysicalDeviceMemoryProperties2(device->physical, &properties);
    // Drivers have been seen to promise more than there is.
    uint64_t left = budget.heapBudget[heap] > budget.heapUsage[heap]
                        ? budget.heapBudget[heap] - budget.heapUsage[heap]
                        : 0;
    return left < available ? left : available;
}

// The first type among allowed ones that has the wanted properties, and the preferred ones if any
// has; UINT32_MAX for none. unwanted is avoided where that is possible.
static uint32_t find_type(const skim_vulkan_device *device, uint32_t allowed,
                          VkMemoryPropertyFlags wanted, VkMemoryPropertyFlags preferred,
                          VkMemoryPropertyFlags unwanted)
{
    const VkMemoryPropertyFlags special = VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT |
                                          VK_MEMORY_PROPERTY_PROTECTED_BIT |
                                          VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD;
    uint32_t best = UINT32_MAX;
    int best_points = -1;
    for (uint32_t i = 0; i < device->memory.memoryTypeCount; i++) {
        VkMemoryPropertyFlags flags = device->memory.memoryTypes[i].propertyFlags;
        if (!(allowed & 1u << i) || (flags & wanted) != wanted || (flags & special))
            continue;
        int points = ((flags & preferred) == preferred) * 2 + !(flags & unwanted);
        if (points > best_points) {
            best = i;
            best_points = points;
        }
    }
    return best;
}

static skim_status out_of_memory(const skim_device *device, skim_error *error, uint64_t size)
{
    return skim_fail(error, SKIM_NO_MEMORY,
                     "out of device memory: %" PRIu64 " bytes wanted, %" PRIu64 " available", size,
                     skim_vulkan_memory_available(device));
}

static skim_status create_buffer(skim_device *base, uint64_t size, bool mapped, skim_error *error,
                                 skim_vulkan_chunk *chunk)
{
    skim_vulkan_device *device = skim_vulkan_device_of(base);
    if (size > device->allocation_max)
        return skim_fail(error, SKIM_NO_MEMORY,
                         "%" PRIu64 " bytes in one piece exceed the driver's largest of %" PRIu64,
                         size, device->allocation_max);
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = SKIM_VULKAN_BUFFER_USAGE,
    };
    VkResult result = device->vk.CreateBuffer(device->handle, &info, NULL, &chunk->buffer);
    if (result != VK_SUCCESS) {
        chunk->buffer = VK_NULL_HANDLE; // a call that failed may have written anything
        return skim_vulkan_fail(base, error, result, "vkCreateBuffer");
    }

    VkMemoryRequirements needs;
    device->vk.GetBufferMemoryRequirements(device->handle, chunk->buffer, &needs);
    const VkMemoryPropertyFlags of_host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type =
        mapped ? find_type(device, needs.memoryTypeBits, of_host,
                           VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 0)
               : find_type(device, needs.memoryTypeBits, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                           VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    if (type == UINT32_MAX)
        return skim_fail(error, SKIM_FAILED, "the driver has no memory type for a buffer");
    const VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
    };
    const VkMemoryAllocateInfo allocation = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    result = device->vk.AllocateMemory(device->handle, &allocation, NULL, &chunk->memory);
    if (result != VK_SUCCESS)
        chunk->memory = VK_NULL_HANDLE;
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        return out_of_memory(base, error, size);
    if (result != VK_SUCCESS)
        return skim_vulkan_fail(base, error, result, "vkAllocateMemory");
    chunk->size = needs.size;
    atomic_fetch_add(&device->held, chunk->size);
    result = device->vk.BindBufferMemory(device->handle, chunk->buffer, chunk->memory, 0);
    if (result != VK_SUCCESS)
        return skim_vulkan_fail(base, error, result, "vkBindBufferMemory");

    const VkBufferDeviceAddressInfo address = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO, .buffer = chunk->buffer};
    chunk->address = device->vk.GetBufferDeviceAddress(device->handle, &address);
    if (chunk->address == 0 || chunk->address % 16 != 0)
        return skim_fail(error, SKIM_FAILED, "the driver gave a buffer no usable address");
    return SKIM_OK;
}

void skim_vulkan_chunk_destroy(skim_vulkan_device *device, skim_vulkan_chunk *chunk)
{
    if (chunk->buffer)
        device->vk.DestroyBuffer(device->handle, chunk->buffer, NULL);
    if (chunk->memory) {
        device->vk.FreeMemory(device->handle, chunk->memory, NULL);
        atomic_fetch_sub(&device->held, chunk->size);
    }
    *chunk = (skim_vulkan_chunk){0};
}

skim_status skim_vulkan_chunk_create(skim_device *base, uint64_t size, skim_error *error,
                                     skim_vulkan_chunk *chunk)
{
    *chunk = (skim_vulkan_chunk){0};
    skim_status status = create_buffer(base, size, false, error, chunk);
    if (status != SKIM_OK)
        skim_vulkan_chunk_destroy(skim_vulkan_device_of(base), chunk);
    return status;
}

skim_status skim_vulkan_mapping_create(skim_device *base, uint64_t size, skim_error *error,
                                       skim_vulkan_mapping *mapping)
{
    skim_vulkan_device *device = skim_vulkan_device_of(base);
    *mapping = (skim_vulkan_mapping){0};
    skim_status status = create_buffer(base, size, true, error, &mapping->chunk);
    if (status == SKIM_OK) {
        void *bytes = NULL;
        VkResult result = device->vk.MapMemory(device->handle, mapping->chunk.memory, 0,
                                               VK_WHOLE_SIZE, 0, &bytes);
        mapping->bytes = bytes;
        if (result != VK_SUCCESS)
            status = skim_vulkan_fail(base, error, result, "vkMapMemory");
    }
    if (status != SKIM_OK)
        skim_vulkan_chunk_destroy(device, &mapping->chunk);
    return status;
}

skim_status skim_vulkan_buffer_create(skim_buffer *buffer)
{
    skim_device *base = buffer->device;
    skim_vulkan_device *device = skim_vulkan_device_of(base);
    if (buffer->size > skim_vulkan_memory_available(base))
        return out_of_memory(base, &base->error, buffer->size);
    const uint64_t most = buffer->whole ? buffer->size : device->chunk_size;
    uint64_t count = (buffer->size + most - 1) / most;
    skim_vulkan_buffer *made =
        skim_allocate(device->base->host, sizeof *made + count * sizeof *made->chunks);
    if (!made)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a buffer");
    made->count = (uint32_t)count;
    buffer->impl = made;
    skim_status status = SKIM_OK;
    for (uint64_t i = 0; i < count && status == SKIM_OK; i++) {
        uint64_t left = buffer->size - i * most;
        uint64_t size = left < most ? left : most;
        // Kernels read whole units, and fills are of whole words.
        status =
            skim_vulkan_chunk_create(base, skim_round_up(size, 16), &base->error, &made->chunks[i]);
    }
    if (status != SKIM_OK)
        skim_vulkan_buffer_destroy(buffer);
    return status;
}

void skim_vulkan_buffer_destroy(skim_buffer *buffer)
{
    skim_vulkan_device *device = skim_vulkan_device_of(buffer->device);
    skim_vulkan_buffer *own = buffer->impl;
    if (!own)
        return;
    if (buffer->wipe > 0)
        skim_vulkan_wipe(device, own->chunks, own->count, buffer->wipe);
    for (uint32_t i = 0; i < own->count && !own->wrapped; i++)
        skim_vulkan_chunk_destroy(device, &own->chunks[i]);
    skim_release(device->base->host, own, sizeof *own + own->count * sizeof *own->chunks);
    buffer->impl = NULL;
}

uint64_t skim_vulkan_address(const skim_vulkan_device *device, const skim_vulkan_buffer *buffer,
                             uint64_t offset)
{
    if (buffer->count == 1)
        return buffer->chunks[0].address + offset;
    return buffer->chunks[offset / device->chunk_size].address + offset % device->chunk_size;
}

// A buffer in one piece that is larger than a chunk (the host's) has an entry per chunk, too.
static uint64_t table_entries(const skim_vulkan_device *device, const skim_buffer *buffer)
{
    return (buffer->size + device->chunk_size - 1) / device->chunk_size;
}

uint64_t skim_vulkan_table_size(const skim_vulkan_device *device, const skim_buffer *buffer)
{
    return (1 + table_entries(device, buffer)) * sizeof(uint64_t);
}

void skim_vulkan_fill_table(const skim_vulkan_device *device, const skim_buffer *buffer,
                            uint64_t offset, char *table)
{
    const uint32_t header[2] = {(uint32_t)(offset / 16), 0};
    memcpy(table, header, sizeof header);
    for (uint64_t i = 0; i < table_entries(device, buffer); i++) {
        uint64_t address = skim_vulkan_address(device, buffer->impl, i * device->chunk_size);
        memcpy(table + (1 + i) * sizeof address, &address, sizeof address);
    }
}

void skim_vulkan_wipe(skim_vulkan_device *device, const skim_vulkan_chunk *chunks, uint32_t count,
                      uint64_t bytes)
{
    const skim_vulkan_functions *vk = &device->vk;
    const VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    if (atomic_load(&device->base->lost))
        return;
    skim_mutex_lock(&device->idle_mutex);
    VkResult result = vk->BeginCommandBuffer(device->wipe_commands, &begin);
    if (result == VK_SUCCESS) {
        for (uint32_t i = 0; i < count && bytes > 0; i++) {
            uint64_t most = count == 1 ? bytes : device->chunk_size;
            uint64_t size = bytes < most ? bytes : most;
            vk->CmdFillBuffer(device->wipe_commands, chunks[i].buffer, 0, skim_round_up(size, 4),
                              0);
            bytes -= size;
        }
        result = vk->EndCommandBuffer(device->wipe_commands);
    }
    if (result == VK_SUCCESS)
        result = skim_vulkan_submit_and_wait(device, 1, &device->wipe_commands);
    skim_mutex_unlock(&device->idle_mutex);
    if (result != VK_SUCCESS && result != VK_ERROR_DEVICE_LOST)
        skim_log_write(device->base->host, SKIM_LOG_WARNING,
                       "device memory was released without being zeroed (VkResult %d)",
                       (int)result);
}
