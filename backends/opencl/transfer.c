#include "backends/opencl/queue.h"

#include <string.h>

enum { FIRST_STAGING = 256 * 1024, STAGING_BLOCKS = 2, STAGING_ALIGNMENT = 64 };

static skim_status failed(skim_opencl_queue *queue, cl_int result, const char *call)
{
    return skim_opencl_fail(queue->device->base, &queue->base->error, result, call);
}

// ---- staging: memory that the driver can reach while the host goes on, mapped as long as it lives

static void release_block(skim_opencl_queue *queue, skim_opencl_staging *block)
{
    const skim_opencl_functions *cl = &queue->device->cl;
    if (block->bytes) {
        memset(block->bytes, 0, block->size); // what tokens left in it
        cl->EnqueueUnmapMemObject(queue->handle, block->piece, block->bytes, 0, NULL, NULL);
    }
    if (block->piece)
        cl->ReleaseMemObject(block->piece);
    skim_release(queue->device->base->host, block, sizeof *block);
}

// Makes a block the newest.
static skim_status add_block(skim_opencl_queue *queue, uint64_t size)
{
    skim_opencl_device *device = queue->device;
    const skim_opencl_functions *cl = &device->cl;
    skim_opencl_staging *block = skim_allocate(device->base->host, sizeof *block);
    if (!block)
        return skim_fail(&queue->base->error, SKIM_NO_MEMORY, "no host memory for staging");
    cl_int result = CL_SUCCESS;
    cl_mem piece = cl->CreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                    size, NULL, &result);
    if (result == CL_SUCCESS) {
        block->piece = piece;
        void *bytes =
            cl->EnqueueMapBuffer(device->service, piece, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                 size, 0, NULL, NULL, &result);
        block->bytes = result == CL_SUCCESS ? bytes : NULL;
    }
    block->size = size;
    if (result != CL_SUCCESS) {
        release_block(queue, block);
        return failed(queue, result, "clEnqueueMapBuffer");
    }
    block->next = queue->blocks;
    queue->blocks = block;
    return SKIM_OK;
}

skim_status skim_opencl_staging_init(skim_opencl_queue *queue)
{
    skim_status status = SKIM_OK;
    for (int i = 0; i < STAGING_BLOCKS && status == SKIM_OK; i++)
        status = add_block(queue, FIRST_STAGING);
    return status;
}

void skim_opencl_staging_deinit(skim_opencl_queue *queue)
{
    while (queue->blocks) {
        skim_opencl_staging *block = queue->blocks;
        queue->blocks = block->next;
        release_block(queue, block);
    }
}

static skim_opencl_staging *find_room(skim_opencl_queue *queue, uint64_t size)
{
    for (skim_opencl_staging *block = queue->blocks; block; block = block->next) {
        if (block->last <= queue->completed)
            block->used = 0;
        if (block->size - block->used >= size)
            return block;
    }
    return NULL;
}

// A block with size bytes free. Blocks whose work is done are empty again; when one must be added,
// those have proved too small and go.
static skim_status find_block(skim_opencl_queue *queue, uint64_t size, skim_opencl_staging **block)
{
    *block = find_room(queue, size);
    if (*block)
        return SKIM_OK;
    skim_opencl_note_completed(queue);
    *block = find_room(queue, size);
    if (*block)
        return SKIM_OK;
    if (atomic_load(&queue->device->base->lost))
        return skim_fail(&queue->base->error, SKIM_DEVICE_LOST, "the device is lost");
    uint64_t largest = FIRST_STAGING;
    for (skim_opencl_staging *one = queue->blocks; one; one = one->next)
        largest = one->size > largest ? one->size : largest;
    uint64_t wanted = size > 2 * largest ? size : 2 * largest;
    skim_status status = add_block(queue, wanted);
    if (status == SKIM_NO_MEMORY && wanted > size)
        status = add_block(queue, size);
    if (status != SKIM_OK)
        return status;
    *block = queue->blocks;
    for (skim_opencl_staging **link = &queue->blocks->next; *link;) {
        skim_opencl_staging *one = *link;
        if (one->used > 0) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        release_block(queue, one);
    }
    return SKIM_OK;
}

// Size bytes of mapped memory, until the point of the next submission is reached.
static skim_status stage(skim_opencl_queue *queue, uint64_t size, char **bytes)
{
    skim_opencl_staging *block;
    size = skim_round_up(size, STAGING_ALIGNMENT);
    skim_status status = find_block(queue, size, &block);
    if (status != SKIM_OK)
        return status;
    *bytes = block->bytes + block->used;
    block->used += size;
    block->last = queue->submitted + 1;
    return SKIM_OK;
}

// ---- recording

// A place in a buffer's memory, and how far it goes on there.
typedef struct place {
    cl_mem piece;
    uint64_t offset;
    uint64_t left;
} place;

static place find_place(const skim_opencl_queue *queue, const skim_buffer *buffer, uint64_t offset)
{
    const skim_opencl_buffer *own = skim_opencl_buffer_of(buffer);
    if (own->count == 1)
        return (place){own->pieces[0], offset, UINT64_MAX};
    const uint64_t size = (uint64_t)1 << queue->device->chunk_shift;
    return (place){own->pieces[offset / size], offset % size, size - offset % size};
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void count_transfer(skim_opencl_queue *queue)
{
    skim_opencl_enqueued(queue);
    queue->base->counts.transfers++;
}

skim_status skim_opencl_record_upload(skim_backend_queue *base, skim_buffer *buffer,
                                      uint64_t offset, const void *data, uint64_t size)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    char *bytes;
    skim_status status = stage(queue, size, &bytes);
    if (status != SKIM_OK)
        return status;
    memcpy(bytes, data, size);
    for (uint64_t done = 0; done < size;) {
        place to = find_place(queue, buffer, offset + done);
        uint64_t piece = smaller(size - done, to.left);
        const skim_opencl_order order = skim_opencl_order_of(queue);
        cl_int result = queue->device->cl.EnqueueWriteBuffer(
            queue->handle, to.piece, CL_FALSE, to.offset, piece, bytes + done, order.count,
            order.events, order.event);
        if (result != CL_SUCCESS)
            return failed(queue, result, "clEnqueueWriteBuffer");
        count_transfer(queue);
        done += piece;
    }
    base->counts.upload_bytes += size;
    return SKIM_OK;
}

skim_status skim_opencl_record_download(skim_backend_queue *base, skim_buffer *buffer,
                                        uint64_t offset, void *data, uint64_t size)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    skim_opencl_landing *landings =
        skim_gpu_grow(queue->device->base->host, queue->landings, queue->landing_count,
                      &queue->landing_capacity, sizeof *landings);
    if (!landings)
        return skim_fail(&base->error, SKIM_NO_MEMORY, "no host memory for a download");
    queue->landings = landings;
    char *bytes;
    skim_status status = stage(queue, size, &bytes);
    if (status != SKIM_OK)
        return status;
    for (uint64_t done = 0; done < size;) {
        place from = find_place(queue, buffer, offset + done);
        uint64_t piece = smaller(size - done, from.left);
        const skim_opencl_order order = skim_opencl_order_of(queue);
        cl_int result = queue->device->cl.EnqueueReadBuffer(
            queue->handle, from.piece, CL_FALSE, from.offset, piece, bytes + done, order.count,
            order.events, order.event);
        if (result != CL_SUCCESS)
            return failed(queue, result, "clEnqueueReadBuffer");
        count_transfer(queue);
        done += piece;
    }
    base->counts.download_bytes += size;
    queue->landings[queue->landing_count++] = (skim_opencl_landing){
        .from = bytes, .to = data, .size = size, .point = queue->submitted + 1};
    return SKIM_OK;
}

void skim_opencl_land(skim_opencl_queue *queue)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < queue->landing_count; i++) {
        const skim_opencl_landing *landing = &queue->landings[i];
        if (landing->point <= queue->completed)
            memcpy(landing->to, landing->from, landing->size);
        else
            queue->landings[kept++] = *landing;
    }
    queue->landing_count = kept;
}

void skim_opencl_forget_landings(skim_opencl_queue *queue)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < queue->landing_count; i++)
        if (queue->landings[i].point <= queue->submitted)
            queue->landings[kept++] = queue->landings[i];
    queue->landing_count = kept;
}

skim_status skim_opencl_record_copy(skim_backend_queue *base, skim_buffer *source,
                                    uint64_t source_offset, skim_buffer *destination,
                                    uint64_t destination_offset, uint64_t size)
{
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    for (uint64_t done = 0; done < size;) {
        place from = find_place(queue, source, source_offset + done);
        place to = find_place(queue, destination, destination_offset + done);
        uint64_t piece = smaller(size - done, smaller(from.left, to.left));
        const skim_opencl_order order = skim_opencl_order_of(queue);
        cl_int result = queue->device->cl.EnqueueCopyBuffer(queue->handle, from.piece, to.piece,
                                                            from.offset, to.offset, piece,
                                                            order.count, order.events, order.event);
        if (result != CL_SUCCESS)
            return failed(queue, result, "clEnqueueCopyBuffer");
        count_transfer(queue);
        done += piece;
    }
    return SKIM_OK;
}

// A fill is of whole patterns: the largest that the range is made of.
skim_status skim_opencl_record_zero(skim_backend_queue *base, skim_buffer *buffer, uint64_t offset,
                                    uint64_t size)
{
    static const char zeros[16];
    skim_opencl_queue *queue = skim_opencl_queue_of(base);
    for (uint64_t done = 0; done < size;) {
        place to = find_place(queue, buffer, offset + done);
        uint64_t piece = smaller(size - done, to.left);
        // Unaligned ends go alone.
        const uint64_t before = skim_round_up(to.offset, sizeof zeros) - to.offset;
        if (before > 0)
            piece = smaller(piece, before);
        else if (piece > sizeof zeros)
            piece = piece / sizeof zeros * sizeof zeros;
        const size_t pattern = before == 0 && piece % sizeof zeros == 0 ? sizeof zeros : 1;
        const skim_opencl_order order = skim_opencl_order_of(queue);
        cl_int result =
            queue->device->cl.EnqueueFillBuffer(queue->handle, to.piece, zeros, pattern, to.offset,
                                                piece, order.count, order.events, order.event);
        if (result != CL_SUCCESS)
            return failed(queue, result, "clEnqueueFillBuffer");
        count_transfer(queue);
        done += piece;
    }
    return SKIM_OK;
}
