// Host memory through the host's allocator, and arithmetic on sizes that cannot wrap.
#ifndef SKIM_MEMORY_H
#define SKIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct skim_host;

// Zeroed memory aligned to 64 bytes, or NULL. release ignores NULL; size as given to allocate.
void *skim_allocate(const struct skim_host *host, size_t size);
void skim_release(const struct skim_host *host, void *memory, size_t size);

// Memory as the allocator gives it, with an alignment of the caller's choice.
void *skim_allocate_raw(const struct skim_host *host, size_t size, size_t alignment);
void skim_release_raw(const struct skim_host *host, void *memory, size_t size, size_t alignment);

static inline bool skim_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    *sum = a + b;
    return *sum >= a;
}

static inline bool skim_multiply(uint64_t a, uint64_t b, uint64_t *product)
{
    *product = a * b;
    return a == 0 || *product / a == b;
}

static inline uint64_t skim_round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

#endif
