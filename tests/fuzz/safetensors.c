// tools/skim/safetensors.c with an mmap and munmap that let the sanitizer know where a file ends.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void *fuzz_mmap(void *address, size_t size, int protection, int flags, int file,
                       off_t offset)
{
    (void)address, (void)protection, (void)flags;
    void *memory = malloc(size);
    if (!memory || pread(file, memory, size, offset) != (ssize_t)size)
        abort();
    return memory;
}

static int fuzz_munmap(void *memory, size_t size)
{
    (void)size;
    free(memory);
    return 0;
}

#define mmap fuzz_mmap
#define munmap fuzz_munmap
#include "tools/skim/safetensors.c"
