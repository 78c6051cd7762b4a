// XXH64, the 64-bit xxHash, from its specification: the checksum of snapshots and of kept values.
// It finds damage; it proves no origin.
#ifndef SKIM_CHECKSUM_H
#define SKIM_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

typedef struct skim_checksum {
    uint64_t lanes[4];
    uint64_t seed;
    uint64_t total;    // bytes so far
    uint8_t block[32]; // the last total % 32 of them
} skim_checksum;

void skim_checksum_begin(skim_checksum *checksum, uint64_t seed);
void skim_checksum_add(skim_checksum *checksum, const void *data, size_t size);

// The checksum of what was added so far.
uint64_t skim_checksum_value(const skim_checksum *checksum);

// Of one piece, with seed 0.
uint64_t skim_checksum_of(const void *data, size_t size);

#endif
