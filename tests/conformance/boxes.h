// Device memory with guard bands, and tensors in any placement whose every byte is accounted for.
#ifndef BOXES_H
#define BOXES_H

#include "suite.h"

// Bytes on the device between two guard bands.
typedef struct region {
    skim_buffer *buffer;
    uint64_t offset; // of the bytes, behind the first guard band
    uint64_t size;
    uint64_t total;
    uint8_t *image; // what the whole buffer should hold, guards included
    uint8_t *copy;  // what it held when last fetched
} region;

// Allocates; the image is filled with poison (NaN, Inf, huge and stale values when read as type;
// SKIM_U32: large numbers). offset becomes an odd multiple of alignment.
bool region_init(context *ctx, region *r, uint64_t size, uint32_t alignment, skim_type type);
// Writes the image to the device.
bool region_upload(context *ctx, region *r);
// Reads the buffer into copy: submits and waits.
bool region_fetch(context *ctx, region *r);
// Whether a fetched copy equals the image in a range of the bytes.
bool region_same(context *ctx, const region *r, const char *what, uint64_t start, uint64_t size);
bool region_guards(context *ctx, const region *r, const char *what);

static inline uint8_t *region_bytes(const region *r)
{
    return r->image + r->offset;
}

static inline uint8_t *region_copy(const region *r)
{
    return r->copy + r->offset;
}

// A tensor of [tokens][heads][dim] in host memory or a buffer, packed or with gaps, all between
// guards.
typedef struct box {
    placement place;
    skim_type type;
    uint32_t tokens, heads, dim;
    uint64_t token_stride, head_stride;
    region r;        // placed in a buffer
    uint8_t *image;  // of the bytes without guards: what an input holds, what an output held before
    uint8_t *memory; // placed in host memory: with guards, given to the library
    uint64_t size;
    skim_tensor tensor;
} box;

bool box_init(context *ctx, box *b, placement place, skim_type type, uint32_t tokens,
              uint32_t heads, uint32_t dim);
// Inputs: sets a token's [heads][dim], which should be of the type already.
void box_set(box *b, uint32_t token, const float *values);
void box_set_u32(box *b, uint32_t index, uint32_t value);
// Inputs: makes the tensor ready for a call. Outputs: makes it poisoned.
bool box_send(context *ctx, box *b);
// After a call that took it as an input: host memory is overwritten, as its owner may.
void box_consumed(box *b);
// Outputs, after the work is done: fetches, and checks that gaps and guards are untouched.
bool box_receive(context *ctx, box *b, const char *what);
float box_get(const box *b, uint32_t token, uint32_t head, uint32_t d);
// Outputs: the same bits in a token and head of two boxes of one shape.
bool box_same(context *ctx, const box *a, const box *b, uint32_t token, uint32_t head,
              const char *what);
// Outputs: an element still holds what it held before the call.
bool box_untouched(const box *b, uint32_t token, uint32_t head, uint32_t d);

// Fills with values that do harm if they are read: NaN, Inf, the largest, stale ones.
void poison(uint8_t *bytes, uint64_t size, skim_type type);

#endif
