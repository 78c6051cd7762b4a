// The context of a running case: verdicts, memory, randomness.
#include "suite.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep(context *ctx, bool *flag, const char *format, va_list arguments)
{
    if (!ctx->failed && !ctx->skipped) {
        vsnprintf(ctx->detail, sizeof ctx->detail, format, arguments);
        *flag = true;
    }
}

bool fail(context *ctx, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    keep(ctx, &ctx->failed, format, arguments);
    va_end(arguments);
    return false;
}

bool skip(context *ctx, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    keep(ctx, &ctx->skipped, format, arguments);
    va_end(arguments);
    return false;
}

bool check(context *ctx, bool condition, const char *format, ...)
{
    if (!condition) {
        va_list arguments;
        va_start(arguments, format);
        keep(ctx, &ctx->failed, format, arguments);
        va_end(arguments);
    }
    return condition;
}

bool ok(context *ctx, skim_status status, const char *call)
{
    if (status == SKIM_OK) {
        return true;
    }
    char text[300] = "";
    if (ctx->cache) {
        skim_cache_error(ctx->cache, text, sizeof text);
    }
    if (!text[0] && ctx->queue) {
        skim_queue_error(ctx->queue, text, sizeof text);
    }
    if (!text[0]) {
        skim_device_error(ctx->device, text, sizeof text);
    }
    // What a device with small pieces of memory cannot take is the pieces' doing, not the kernels'.
    if (status == SKIM_UNSUPPORTED && ctx->options->allocation_max > 0 &&
        strstr(text, "lies across two allocations")) {
        return skip(ctx, "%s: %s", call, text);
    }
    if (status == SKIM_NO_MEMORY && ctx->options->allocation_max > 0 &&
        strstr(text, "do not fit in")) {
        return skip(ctx, "%s: %s", call, text);
    }
    return fail(ctx, "%s: %s: %s", call, skim_status_name(status), text);
}

// Room for one more pointer in a growing array.
static void *grow(void *array, size_t count, size_t *capacity)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity ? 2 * *capacity : 64;
    void *larger = realloc(array, *capacity * sizeof(void *));
    if (!larger) {
        fputs("conformance: out of memory\n", stderr);
        exit(1);
    }
    return larger;
}

void *take(context *ctx, size_t count, size_t size)
{
    void *block = calloc(count ? count : 1, size);
    if (!block) {
        fputs("conformance: out of memory\n", stderr);
        exit(1);
    }
    ctx->blocks = grow(ctx->blocks, ctx->block_count, &ctx->block_capacity);
    ctx->blocks[ctx->block_count++] = block;
    return block;
}

skim_buffer *take_buffer(context *ctx, uint64_t size)
{
    skim_buffer *buffer = NULL;
    if (!ok(ctx, skim_buffer_create(ctx->device, size, &buffer), "skim_buffer_create")) {
        return NULL;
    }
    ctx->buffers = grow(ctx->buffers, ctx->buffer_count, &ctx->buffer_capacity);
    ctx->buffers[ctx->buffer_count++] = buffer;
    return buffer;
}

void release_objects(context *ctx)
{
    skim_cache_destroy(ctx->cache);
    ctx->cache = NULL;
    skim_queue_destroy(ctx->queue);
    ctx->queue = NULL;
    while (ctx->buffer_count > 0) {
        skim_buffer_destroy(ctx->buffers[--ctx->buffer_count]);
    }
}

bool renew_queue(context *ctx)
{
    release_objects(ctx);
    return ok(ctx, skim_queue_create(ctx->device, &ctx->queue), "skim_queue_create");
}

void release_case(context *ctx)
{
    release_objects(ctx);
    while (ctx->block_count > 0) {
        free(ctx->blocks[--ctx->block_count]);
    }
}

uint64_t hash_text(const char *text, uint64_t seed)
{
    uint64_t hash = seed ^ 0xcbf29ce484222325u;
    for (; *text; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    }
    hash ^= hash >> 31;
    hash *= 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

// splitmix64.
static uint64_t random_u64(context *ctx)
{
    uint64_t z = ctx->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t random_u32(context *ctx)
{
    return (uint32_t)(random_u64(ctx) >> 32);
}

uint32_t random_below(context *ctx, uint32_t limit)
{
    return (uint32_t)(((uint64_t)random_u32(ctx) * limit) >> 32);
}

double random_unit(context *ctx)
{
    return (double)(random_u64(ctx) >> 11) * 0x1p-53;
}

// The sum of twelve uniforms: nearly normal, and the same on every machine.
double random_normal(context *ctx)
{
    uint32_t sum = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t bits = random_u64(ctx);
        sum += (uint32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) +
                          (bits >> 48));
    }
    return ((double)sum + 6.0) / 65536.0 - 6.0;
}

void shuffle(context *ctx, uint32_t *values, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = random_below(ctx, i);
        uint32_t other = values[i - 1];
        values[i - 1] = values[j];
        values[j] = other;
    }
}
