// The counting allocator and the threads that cannot be started.
#include "tests/fault/failing.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 64, PATTERN = 0xA5 };

typedef struct header {
    size_t size;
    size_t alignment;
    uint64_t magic;
} header;

static const uint64_t magic = 0x5afe0a110ca7edull;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool allocation_fails(void)
{
    const fault_plan *plan = &fault_now.plan;
    if (!fault_now.armed)
        return false;
    uint32_t index = fault_now.allocations++;
    bool hit = !fault_now.lifted && plan->kind == FAULT_ALLOCATION &&
               (plan->persistent ? index >= plan->index : index == plan->index);
    fault_now.fired += hit;
    return hit;
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    size_t offset = alignment > HEADER ? alignment : HEADER;
    void *base = NULL;
    pthread_mutex_lock(&mutex);
    bool fails = allocation_fails();
    if (!fails && posix_memalign(&base, offset, offset + size) == 0) {
        fault_now.blocks++;
        fault_now.bytes += size;
    }
    pthread_mutex_unlock(&mutex);
    if (!base)
        return NULL;
    char *memory = (char *)base + offset;
    memset(memory, PATTERN, size);
    *(header *)(void *)(memory - HEADER) = (header){size, alignment, magic};
    return memory;
}

static void release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    header *head = (header *)(void *)((char *)memory - HEADER);
    fault_host_released(memory, size);
    pthread_mutex_lock(&mutex);
    if (head->magic != magic)
        fault_violation("memory that was not allocated is released");
    else if (head->size != size || head->alignment != alignment)
        fault_violation("%zu bytes aligned to %zu were allocated, and %zu to %zu released",
                        head->size, head->alignment, size, alignment);
    size_t offset = head->alignment > HEADER ? head->alignment : HEADER;
    fault_now.blocks--;
    fault_now.bytes -= head->size;
    head->magic = 0;
    pthread_mutex_unlock(&mutex);
    free((char *)memory - offset);
}

skim_allocator fault_allocator(void)
{
    return (skim_allocator){allocate, release, NULL};
}

// The linker sends the library's calls here (--wrap).
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
    const fault_plan *plan = &fault_now.plan;
    if (fault_now.armed) {
        uint32_t index = fault_now.threads++;
        if (!fault_now.lifted && plan->kind == FAULT_THREAD &&
            (plan->persistent ? index >= plan->index : index == plan->index)) {
            fault_now.fired++;
            return 11; // EAGAIN
        }
    }
    return __real_pthread_create(thread, attributes, start, argument);
}
