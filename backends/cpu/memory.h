// The machine's memory, and buffers in it.
#ifndef SKIM_CPU_MEMORY_H
#define SKIM_CPU_MEMORY_H

#include "runtime/backend.h"

// Bytes, 0 if unknown; limits of control groups counted.
uint64_t skim_cpu_memory_total(void);
uint64_t skim_cpu_memory_available(void);

skim_status skim_cpu_buffer_create(skim_buffer *buffer);
void skim_cpu_buffer_destroy(skim_buffer *buffer);

#endif
