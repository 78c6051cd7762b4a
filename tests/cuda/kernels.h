// The kernels by name, as the emulated driver finds them.
#ifndef SKIM_EMULATED_KERNELS_H
#define SKIM_EMULATED_KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct emulated_kernel {
    const char *name;
    void (*run)(const void *argument);
    size_t argument_size;
    uint64_t launches;
};

struct emulated_kernels {
    emulated_kernel *items;
    size_t count;
};

// One per file that kernels are compiled in.
emulated_kernels emulated_append_kernels();
emulated_kernels emulated_estimate_kernels();
emulated_kernels emulated_select_kernels();
emulated_kernels emulated_attend_kernels();
emulated_kernels emulated_prefill_kernels();

#define EMULATED_ENTRY(name, type)                                                                 \
    {#name, [](const void *argument) { name(*(const type *)argument); }, sizeof(type), 0},

#endif
