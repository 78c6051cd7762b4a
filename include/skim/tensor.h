// How a call is told where queries, keys, values and results are.
#ifndef SKIM_TENSOR_H
#define SKIM_TENSOR_H

#include "skim/base.h"

#ifdef __cplusplus
extern "C" {
#endif

// A tensor of [tokens][heads][dim] elements, dim contiguous, in host memory or in a device buffer.
// (lse has no dim; rows, tables and lists have one "head" and say what a "token" is.)
//
// Host memory given as input is consumed before the call returns. Host memory given as output is
// written when the point of the submission that holds the call is reached, and must live until
// then. Buffers must live until then in both cases.
typedef struct skim_tensor {
    skim_buffer *buffer; // device memory; NULL for host memory
    void *data;          // host memory, aligned to its type; used when buffer is NULL
    uint64_t offset; // bytes from the start of the buffer or of data, a multiple of the type's size
    skim_type type;  // type of the elements
    uint64_t token_stride; // elements from a token to the next; 0: heads * head_stride (packed)
    uint64_t head_stride;  // elements from a head to the next; 0: dim (packed)
} skim_tensor;

// Returns a packed tensor in host memory. data is not written when the tensor is used as an input.
static inline skim_tensor skim_tensor_host(const void *data, skim_type type)
{
    skim_tensor tensor = {NULL, NULL, 0, SKIM_TYPE_NONE, 0, 0};
    tensor.data = (void *)(uintptr_t)data;
    tensor.type = type;
    return tensor;
}

// Returns a packed tensor that starts offset bytes into a device buffer.
static inline skim_tensor skim_tensor_buffer(skim_buffer *buffer, uint64_t offset, skim_type type)
{
    skim_tensor tensor = {NULL, NULL, 0, SKIM_TYPE_NONE, 0, 0};
    tensor.buffer = buffer;
    tensor.offset = offset;
    tensor.type = type;
    return tensor;
}

#ifdef __cplusplus
}
#endif
#endif
