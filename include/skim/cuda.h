// The CUDA backend beside the application's own CUDA: its context, its streams, its memory and its
// events.
//
// The header declares the few handles itself, so that it needs no CUDA header and goes with any,
// included before it or after it: CUcontext is struct CUctx_st *, CUstream (and cudaStream_t) is
// struct CUstream_st *, CUevent (and cudaEvent_t) is struct CUevent_st *. A CUdeviceptr is a
// number; of a pointer of the CUDA runtime's pass (uint64_t)pointer.
//
// In a build of Skim without CUDA all functions are there; opening a device answers SKIM_NO_DEVICE.
#ifndef SKIM_CUDA_H
#define SKIM_CUDA_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUctx_st;
struct CUstream_st;
struct CUevent_st;

// ---- devices

typedef struct skim_cuda_options {
    size_t size_of;
    uint64_t disable; // fast paths not to use, as in skim_device_options

    // Without a context of the host's: which device to open, "cuda", "cuda:1" or a UUID. NULL:
    // "cuda".
    const char *selector;

    // The host's, which stays the host's and is destroyed after skim_device_close. NULL: the
    // device's primary context, which is the one that the CUDA runtime uses.
    struct CUctx_st *context;
} skim_cuda_options;

// Opens a device with the primary context of one (selector), or with the host's context. Everything
// else as skim_device_open. Whatever context is current on a thread that calls into Skim is current
// again when the call returns.
//   options  copied; may be NULL for the defaults
//   device   receives the device; close it with skim_device_close
// Blocks while the driver initialises. Thread-safe.
// Errors: SKIM_INVALID (a selector and a context, a selector of no CUDA device), SKIM_NO_DEVICE,
// SKIM_UNSUPPORTED (the host's device will not do: the error on the runtime says why),
// SKIM_NO_MEMORY, SKIM_FAILED.
SKIM_API skim_status skim_cuda_device_open(skim_runtime *runtime, const skim_cuda_options *options,
                                           skim_device **device);

// ---- streams

// Creates a queue that records on the host's stream. Everything else as skim_queue_create; the
// stream stays the host's and must live until skim_queue_destroy.
//   stream  of the device's context, not NULL. What the host puts on it runs in order with what
//           is recorded on the queue, before it and after it
// What is recorded is on the stream at once; skim_queue_submit adds the point. skim_queue_destroy
// and a wait that fails wait for the stream.
//
// The stream may be captured (cuStreamBeginCapture): verbs that are recorded meanwhile become nodes
// of the graph, which may be launched any number of times. Tensors must be device buffers then,
// rows and tables too: the kernels read lengths, tables and lists when they run, so that a graph
// that was captured once serves every token for which rows were written, within the shape that the
// queue was prepared for. A graph uses the queue's scratch: launch it on this stream, or ordered
// with the queue's other work by events, not after skim_queue_destroy, and not after the queue was
// prepared for a larger shape. Host tensors, transfers to or from host memory, and marks are
// SKIM_UNSUPPORTED in a capture, submitting is SKIM_STATE. Points say nothing about launches of the
// graph. Errors: as skim_queue_create; SKIM_UNSUPPORTED (not a CUDA device).
SKIM_API skim_status skim_cuda_queue_create(skim_device *device, struct CUstream_st *stream,
                                            skim_queue **queue);

// ---- memory

// Makes a buffer of Skim's of device memory of the host's, for use with all calls that take one.
//   address  (CUdeviceptr) of memory that kernels of the device's context can read and write, a
//            multiple of 16 above 0
//   size     bytes of it to use
//   buffer   receives the buffer; destroy it with skim_buffer_destroy, which frees and zeroes
//   nothing of
//            the host's
// Thread-safe. Errors: SKIM_INVALID, SKIM_UNSUPPORTED (not a CUDA device, or the address is no
// multiple of 16), SKIM_NO_MEMORY (of the host), SKIM_DEVICE_LOST.
SKIM_API skim_status skim_cuda_buffer_wrap(skim_device *device, uint64_t address, uint64_t size,
                                           skim_buffer **buffer);

// Where a buffer begins, for the host's own kernels and copies (CUdeviceptr); 0 for NULL or a
// buffer of another backend. Any thread.
SKIM_API uint64_t skim_cuda_buffer_address(const skim_buffer *buffer);

// ---- events

// Makes what is recorded on the queue after this call wait for what the event stands for now
// (cuStreamWaitEvent). Counts as recorded work. Does not block.
//   event  of the device's context, or one that it may wait for
// Errors: SKIM_INVALID, SKIM_UNSUPPORTED (not a CUDA device), SKIM_FAILED, SKIM_DEVICE_LOST.
SKIM_API skim_status skim_cuda_queue_wait_event(skim_queue *queue, struct CUevent_st *event);

// Records the host's event after what was recorded on the queue so far (cuEventRecord). Everything
// else as above.
SKIM_API skim_status skim_cuda_queue_record_event(skim_queue *queue, struct CUevent_st *event);

#ifdef __cplusplus
}
#endif
#endif
