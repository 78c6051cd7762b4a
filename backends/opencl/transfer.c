#include "backends/opencl/queue.h"

#include <string.h>

static skim_status failed(skim_opencl_queue *queue, cl_int result, const char *call)
{
    return skim_opencl_fail(queue->device->base, &queue->base->error, result, call);
}

// ---- staging: memory that the driver can reach while the host goes on, mapped as long as it lives

typedef struct staging_block {
    skim_gpu_block base;
    cl_mem piece;
} staging_block;

static void destroy_block(void *user, skim_gpu_block *base)
{
    skim_opencl_queue *queue = user;
    staging_block *block = (staging_block *)base;
    const skim_opencl_functions *cl = &queue->device->cl;
    if (base->bytes)
        cl->EnqueueUnmapMemObject(queue->handle, block->piece, base->bytes, 0, NULL, NULL);
    if (block->piece)
        cl->ReleaseMemObject(block->piece);
    skim_release(queue->device->base->host, block, sizeof *block);
}

static skim_status create_block(void *user, uint64_t size, skim_gpu_block **made)
{
    skim_opencl_queue *queue = user;
    skim_opencl_device *device = queue->device;
    const skim_opencl_functions *cl = &device->cl;
    staging_block *block = skim_allocate(device->base->host, sizeof *block);
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
        block->base.bytes = result == CL_SUCCESS ? bytes : NULL;
    }
    block->base.size = size;
    if (result != CL_SUCCESS) {
        destroy_block(queue, &block->base);
        return failed(queue, result, "clEnqueueMapBuffer");
    }
    *made = &block->base;
    return SKIM_OK;
}

static void note_completed(void *user)
{
    skim_opencl_note_completed(user);
}

const skim_gpu_memory skim_opencl_staging = {create_block, destroy_block, note_completed};

static skim_status stage(skim_opencl_queue *queue, uint64_t size, char **bytes)
{
    skim_gpu_block *block;
    uint64_t at;
    skim_status status = skim_gpu_stage(&queue->staging, size, &block, &at);
    if (status == SKIM_OK)
        *bytes = block->bytes + at;
    return status;
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
    char *bytes;
    skim_status status = skim_gpu_reserve_landing(&queue->staging);
    if (status == SKIM_OK)
        status = stage(queue, size, &bytes);
    if (status != SKIM_OK)
        return status;
    for (uint64_t done = 0; done < size;) {
        place from = find_place(queue, buffer, offset + done);
        uint64_t piece = smaller(size - done, from.left);
        const skim_opencl_order order = skim_opencl_order_of(queue);
        cl_int result = queue->device->cl.EnqueueReadBuffer(queue->handle, from.piece, CL_FALSE,
                                                            from.offset, piece, bytes + done,
                                                            order.count, order.events, order.event);
        if (result != CL_SUCCESS)
            return failed(queue, result, "clEnqueueReadBuffer");
        count_transfer(queue);
        done += piece;
    }
    base->counts.download_bytes += size;
    skim_gpu_add_landing(&queue->staging, bytes, data, size);
    return SKIM_OK;
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
