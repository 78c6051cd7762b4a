// The names are those of the specification (xxHash, doc/xxhash_spec.md, XXH64).
#include "runtime/checksum.h"

#include <string.h>

enum { BLOCK = 32 };

static const uint64_t PRIME_1 = 0x9E3779B185EBCA87;
static const uint64_t PRIME_2 = 0xC2B2AE3D27D4EB4F;
static const uint64_t PRIME_3 = 0x165667B19E3779F9;
static const uint64_t PRIME_4 = 0x85EBCA77C2B2AE63;
static const uint64_t PRIME_5 = 0x27D4EB2F165667C5;

static uint64_t rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

// Little-endian; compilers make one load of it where that is what the host does.
static uint64_t load64(const uint8_t *bytes)
{
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 |
           (uint64_t)bytes[3] << 24 | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40 |
           (uint64_t)bytes[6] << 48 | (uint64_t)bytes[7] << 56;
}

static uint64_t load32(const uint8_t *bytes)
{
    return (uint64_t)bytes[0] | (uint64_t)bytes[1] << 8 | (uint64_t)bytes[2] << 16 |
           (uint64_t)bytes[3] << 24;
}

static uint64_t round_of(uint64_t lane, uint64_t input)
{
    return rotate(lane + input * PRIME_2, 31) * PRIME_1;
}

// Takes whole blocks.
static void consume(uint64_t lanes[4], const uint8_t *data, size_t blocks)
{
    uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
    for (; blocks > 0; blocks--, data += BLOCK) {
        a = round_of(a, load64(data));
        b = round_of(b, load64(data + 8));
        c = round_of(c, load64(data + 16));
        d = round_of(d, load64(data + 24));
    }
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;
}

void skim_checksum_begin(skim_checksum *checksum, uint64_t seed)
{
    *checksum = (skim_checksum){
        .lanes = {seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1}, .seed = seed};
}

void skim_checksum_add(skim_checksum *checksum, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t held = checksum->total % BLOCK;
    checksum->total += size;
    if (held > 0) {
        size_t part = size < BLOCK - held ? size : BLOCK - held;
        memcpy(checksum->block + held, bytes, part);
        if (held + part < BLOCK)
            return;
        consume(checksum->lanes, checksum->block, 1);
        bytes += part;
        size -= part;
    }
    consume(checksum->lanes, bytes, size / BLOCK);
    if (size % BLOCK > 0)
        memcpy(checksum->block, bytes + size / BLOCK * BLOCK, size % BLOCK);
}

static uint64_t merge(uint64_t value, uint64_t lane)
{
    return (value ^ round_of(0, lane)) * PRIME_1 + PRIME_4;
}

static uint64_t converge(const skim_checksum *checksum)
{
    if (checksum->total < BLOCK)
        return checksum->seed + PRIME_5;
    const uint64_t *lanes = checksum->lanes;
    uint64_t value =
        rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18);
    for (int i = 0; i < 4; i++)
        value = merge(value, lanes[i]);
    return value;
}

uint64_t skim_checksum_value(const skim_checksum *checksum)
{
    uint64_t value = converge(checksum) + checksum->total;
    const uint8_t *bytes = checksum->block;
    size_t left = checksum->total % BLOCK;
    for (; left >= 8; left -= 8, bytes += 8)
        value = rotate(value ^ round_of(0, load64(bytes)), 27) * PRIME_1 + PRIME_4;
    if (left >= 4) {
        value = rotate(value ^ load32(bytes) * PRIME_1, 23) * PRIME_2 + PRIME_3;
        left -= 4;
        bytes += 4;
    }
    for (; left > 0; left--, bytes++)
        value = rotate(value ^ *bytes * PRIME_5, 11) * PRIME_1;
    value = (value ^ value >> 33) * PRIME_2;
    value = (value ^ value >> 29) * PRIME_3;
    return value ^ value >> 32;
}

uint64_t skim_checksum_of(const void *data, size_t size)
{
    skim_checksum checksum;
    skim_checksum_begin(&checksum, 0);
    skim_checksum_add(&checksum, data, size);
    return skim_checksum_value(&checksum);
}
