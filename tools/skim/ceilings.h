// What the machine itself can do, measured with plain loops: the ceilings that times are compared
// with.
#ifndef SKIM_TOOL_CEILINGS_H
#define SKIM_TOOL_CEILINGS_H

#include "workers.h"

#include <stddef.h>

// Seconds to read size bytes in order, each thread a part.
double ceiling_read(struct workers *workers, const void *data, size_t size);

// Seconds to read count chunks of size bytes at the offsets, each thread a part of the list.
double ceiling_read_chunks(struct workers *workers, const void *data, const uint64_t *offsets,
                           size_t count, size_t size);

// f32 operations a second of fused multiply-adds in registers (two each), all threads.
double ceiling_fma(struct workers *workers);

// Bytes of the largest data cache of the first processor; a guess where the system does not tell.
uint64_t ceiling_cache_bytes(void);

#endif
