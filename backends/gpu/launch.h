// A verb's arguments as a kernel takes them: where its tensors are, and the words beside them.
#ifndef SKIM_GPU_LAUNCH_H
#define SKIM_GPU_LAUNCH_H

#include "backends/gpu/plan.h"

// Something that a kernel reads or writes: bytes of a buffer. Without a buffer there is none, or,
// of scratch, it is the queue's.
typedef struct skim_gpu_operand {
    const char *name;
    const skim_buffer *buffer;
    uint64_t offset;
    uint64_t bytes;
    bool units; // keys, values or bounds, which may lie in a buffer of several pieces
} skim_gpu_operand;

// What a kernel is told. The addresses come first, in the order of the operands; a backend fills
// them in.
typedef struct skim_gpu_append_push {
    SKIM_APPEND_FIELDS
} skim_gpu_append_push;
typedef struct skim_gpu_estimate_push {
    SKIM_ESTIMATE_FIELDS
} skim_gpu_estimate_push;
typedef struct skim_gpu_select_push {
    SKIM_SELECT_FIELDS
} skim_gpu_select_push;
typedef struct skim_gpu_attend_push {
    SKIM_ATTEND_FIELDS
} skim_gpu_attend_push;

enum {
    SKIM_GPU_APPEND_OPERANDS = 8,
    SKIM_GPU_ESTIMATE_OPERANDS = 6,
    SKIM_GPU_SELECT_OPERANDS = 4, // the last one is scratch
    SKIM_GPU_ATTEND_OPERANDS = 9, // the last one is scratch
    SKIM_GPU_OPERANDS_MAX = SKIM_GPU_ATTEND_OPERANDS
};

// Each fills the operands and the words beside the addresses. SKIM_UNSUPPORTED if a stride is more
// than a kernel's word holds.
skim_status skim_gpu_describe_append(const skim_append_args *args, skim_error *error,
                                     skim_gpu_append_push *push, skim_gpu_operand *operands);
skim_status skim_gpu_describe_estimate(const skim_estimate_args *args, skim_error *error,
                                       skim_gpu_estimate_push *push, skim_gpu_operand *operands);
skim_status skim_gpu_describe_select(const skim_select_args *args, skim_error *error,
                                     skim_gpu_select_push *push, skim_gpu_operand *operands);
skim_status skim_gpu_describe_attend(const skim_attend_args *args, skim_error *error,
                                     skim_gpu_attend_push *push, skim_gpu_operand *operands);

// A tensor of [tokens][heads][dim] as an operand, its strides as a kernel takes them. A null tensor
// has no buffer.
skim_status skim_gpu_describe_tensor(const char *name, const skim_tensor *tensor, uint32_t tokens,
                                     uint32_t heads, uint32_t dim, skim_error *error,
                                     skim_gpu_operand *operand, uint32_t *token_stride,
                                     uint32_t *head_stride);

// Whether the rows of a tensor that begins at the address or offset can be read 16 bytes at a time.
bool skim_gpu_is_of_units(uint64_t address, const skim_tensor *tensor);

// Whether a call of append sets the centre, and so takes three launches: store, centre, bounds.
bool skim_gpu_freezes(const skim_append_args *args);

#endif
