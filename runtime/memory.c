#include "runtime/memory.h"

#include "runtime/backend.h"

#include <string.h>

enum { SKIM_ALIGNMENT = 64 };

void *skim_allocate_raw(const struct skim_host *host, size_t size, size_t alignment)
{
    return host->allocator.allocate(host->allocator.user, size, alignment);
}

void skim_release_raw(const struct skim_host *host, void *memory, size_t size, size_t alignment)
{
    if (memory)
        host->allocator.release(host->allocator.user, memory, size, alignment);
}

void *skim_allocate(const struct skim_host *host, size_t size)
{
    void *memory = skim_allocate_raw(host, size, SKIM_ALIGNMENT);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void skim_release(const struct skim_host *host, void *memory, size_t size)
{
    if (memory)
        memset(memory, 0, size); // it may hold what the model was told
    skim_release_raw(host, memory, size, SKIM_ALIGNMENT);
}
