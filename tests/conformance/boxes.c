#include "boxes.h"

#include <stdio.h>
#include <string.h>

#define GUARD 256u

void poison(uint8_t *bytes, uint64_t size, skim_type type)
{
    static const uint32_t f32[8] = {0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff,
                                    0xffc12345, 0x42c80000, 0xff7fffff, 0xc2c80000};
    static const uint16_t f16[8] = {0x7e00, 0x7c00, 0xfc00, 0x7bff, 0xfe01, 0x5640, 0xfbff, 0xd640};
    static const uint16_t bf16[8] = {0x7fc0, 0x7f80, 0xff80, 0x7f7f,
                                     0xffc1, 0x42c8, 0xff7f, 0xc2c8};
    static const uint32_t u32[4] = {0xdeadbeef, 0xfffffff0, 0x80000001, 0x7ffffffe};
    size_t width = skim_type_size(type);
    for (uint64_t i = 0; i < size / width; i++) {
        uint64_t which = (i ^ (i >> 3) ^ (i >> 7)) & 7;
        const void *value = type == SKIM_F32    ? (const void *)&f32[which]
                            : type == SKIM_F16  ? (const void *)&f16[which]
                            : type == SKIM_BF16 ? (const void *)&bf16[which]
                                                : (const void *)&u32[which & 3];
        memcpy(bytes + i * width, value, width);
    }
}

bool region_init(context *ctx, region *r, uint64_t size, uint32_t alignment, skim_type type)
{
    uint64_t lead = (GUARD / alignment + 1) * alignment;
    lead += (lead / alignment) % 2 ? 0 : alignment;
    uint64_t padded = (size + 3) / 4 * 4;
    *r = (region){.offset = lead, .size = size, .total = lead + padded + GUARD};
    r->buffer = take_buffer(ctx, r->total);
    r->image = take(ctx, r->total, 1);
    r->copy = take(ctx, r->total, 1);
    poison(r->image, r->total, type);
    return r->buffer != NULL;
}

bool region_upload(context *ctx, region *r)
{
    return ok(ctx, skim_queue_upload(ctx->queue, r->buffer, 0, r->image, r->total), "upload");
}

bool region_fetch(context *ctx, region *r)
{
    return ok(ctx, skim_queue_download(ctx->queue, r->buffer, 0, r->copy, r->total), "download") &&
           ok(ctx, skim_queue_finish(ctx->queue), "finish");
}

static bool same_bytes(context *ctx, const char *what, const uint8_t *got, const uint8_t *expected,
                       uint64_t size)
{
    if (memcmp(got, expected, size) == 0) {
        return true;
    }
    uint64_t at = 0;
    while (got[at] == expected[at]) {
        at++;
    }
    return fail(ctx, "%s: byte %llu is %02x, should be %02x", what, (unsigned long long)at, got[at],
                expected[at]);
}

bool region_same(context *ctx, const region *r, const char *what, uint64_t start, uint64_t size)
{
    return same_bytes(ctx, what, r->copy + r->offset + start, r->image + r->offset + start, size);
}

bool region_guards(context *ctx, const region *r, const char *what)
{
    char text[80];
    snprintf(text, sizeof text, "%s: the guard before it", what);
    if (!same_bytes(ctx, text, r->copy, r->image, r->offset)) {
        return false;
    }
    snprintf(text, sizeof text, "%s: the guard after it", what);
    uint64_t end = r->offset + r->size;
    return same_bytes(ctx, text, r->copy + end, r->image + end, r->total - end);
}

static bool in_buffer(const box *b)
{
    return b->place == PLACE_BUFFER || b->place == PLACE_BUFFER_STRIDED;
}

static bool strided(const box *b)
{
    return b->place == PLACE_HOST_STRIDED || b->place == PLACE_BUFFER_STRIDED;
}

bool box_init(context *ctx, box *b, placement place, skim_type type, uint32_t tokens,
              uint32_t heads, uint32_t dim)
{
    *b = (box){.place = place, .type = type, .tokens = tokens, .heads = heads, .dim = dim};
    b->head_stride = dim + (strided(b) ? 8u : 0u);
    b->token_stride = heads * b->head_stride + (strided(b) ? 24u : 0u);
    b->size = (tokens ? tokens : 1) * b->token_stride * skim_type_size(type);
    b->tensor = (skim_tensor){.type = type};
    if (strided(b)) {
        b->tensor.token_stride = b->token_stride;
        b->tensor.head_stride = b->head_stride;
    }
    if (in_buffer(b)) {
        if (!region_init(ctx, &b->r, b->size, 16, type)) {
            return false;
        }
        b->image = region_bytes(&b->r);
        b->tensor.buffer = b->r.buffer;
        b->tensor.offset = b->r.offset;
        return true;
    }
    b->memory = take(ctx, b->size + 2 * GUARD, 1);
    b->image = take(ctx, b->size, 1);
    poison(b->memory, b->size + 2 * GUARD, type);
    poison(b->image, b->size, type);
    b->tensor.data = b->memory;
    b->tensor.offset = GUARD;
    return true;
}

static size_t element(const box *b, uint32_t token, uint32_t head, uint32_t d)
{
    return token * b->token_stride + head * b->head_stride + d;
}

void box_set(box *b, uint32_t token, const float *values)
{
    for (uint32_t head = 0; head < b->heads; head++) {
        for (uint32_t d = 0; d < b->dim; d++) {
            float value = values[(size_t)head * b->dim + d];
            reference_store(b->image, element(b, token, head, d), b->type, value);
        }
    }
}

void box_set_u32(box *b, uint32_t index, uint32_t value)
{
    memcpy(b->image + (size_t)index * 4, &value, 4);
}

bool box_send(context *ctx, box *b)
{
    if (in_buffer(b)) {
        return region_upload(ctx, &b->r);
    }
    memcpy(b->memory + GUARD, b->image, b->size);
    return true;
}

void box_consumed(box *b)
{
    if (!in_buffer(b)) {
        poison(b->memory, b->size + 2 * GUARD, b->type);
    }
}

static const uint8_t *received(const box *b)
{
    return in_buffer(b) ? region_copy(&b->r) : b->memory + GUARD;
}

// The gaps between heads and tokens.
static bool gaps_same(context *ctx, const box *b, const char *what)
{
    size_t width = skim_type_size(b->type);
    const uint8_t *got = received(b);
    for (uint32_t token = 0; token < b->tokens; token++) {
        for (uint32_t head = 0; head < b->heads; head++) {
            size_t start = (element(b, token, head, 0) + b->dim) * width;
            size_t end = head + 1 < b->heads ? element(b, token, head + 1, 0) * width
                                             : element(b, token + 1, 0, 0) * width;
            if (memcmp(got + start, b->image + start, end - start) != 0) {
                return fail(ctx, "%s: the gap after token %u, head %u was written", what, token,
                            head);
            }
        }
    }
    return true;
}

static bool host_guards(context *ctx, const box *b, const char *what)
{
    uint8_t *expected = take(ctx, b->size + 2 * GUARD, 1);
    poison(expected, b->size + 2 * GUARD, b->type);
    uint64_t end = GUARD + b->size;
    return check(ctx, memcmp(b->memory, expected, GUARD) == 0, "%s: written before its start",
                 what) &&
           check(ctx, memcmp(b->memory + end, expected + end, GUARD) == 0,
                 "%s: written past its end", what);
}

bool box_receive(context *ctx, box *b, const char *what)
{
    if (in_buffer(b)) {
        if (!region_fetch(ctx, &b->r) || !region_guards(ctx, &b->r, what)) {
            return false;
        }
    } else if (!ok(ctx, skim_queue_finish(ctx->queue), "finish") || !host_guards(ctx, b, what)) {
        return false;
    }
    return gaps_same(ctx, b, what);
}

float box_get(const box *b, uint32_t token, uint32_t head, uint32_t d)
{
    return reference_load(received(b), element(b, token, head, d), b->type);
}

bool box_same(context *ctx, const box *a, const box *b, uint32_t token, uint32_t head,
              const char *what)
{
    size_t width = skim_type_size(a->type);
    for (uint32_t d = 0; d < a->dim; d++) {
        const uint8_t *x = received(a) + element(a, token, head, d) * width;
        const uint8_t *y = received(b) + element(b, token, head, d) * width;
        if (memcmp(x, y, width) != 0) {
            return fail(ctx, "%s: token %u, head %u, channel %u: %.9g and %.9g", what, token, head,
                        d, (double)box_get(a, token, head, d), (double)box_get(b, token, head, d));
        }
    }
    return true;
}

bool box_untouched(const box *b, uint32_t token, uint32_t head, uint32_t d)
{
    size_t width = skim_type_size(b->type);
    size_t at = element(b, token, head, d) * width;
    return memcmp(received(b) + at, b->image + at, width) == 0;
}
