// What saving and loading share, and the save that goes on while sequences decode.
#ifndef SKIM_SNAPSHOT_PRIVATE_H
#define SKIM_SNAPSHOT_PRIVATE_H

#include "runtime/cache.h"
#include "runtime/checksum.h"
#include "runtime/snapshot_format.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define SKIM_BIG_ENDIAN 1
#else
#define SKIM_BIG_ENDIAN 0
#endif

enum {
    SKIM_SNAPSHOT_PIECE = 1 << 20,       // through memory of the library's
    SKIM_SNAPSHOT_PIECE_DIRECT = 1 << 18 // from or to the pages themselves: what caches hold
};

// Bytes of memory for the pieces of a snapshot of this size.
static inline size_t skim_snapshot_memory(uint64_t total)
{
    return total < SKIM_SNAPSHOT_PIECE ? (size_t)total : SKIM_SNAPSHOT_PIECE;
}

// The pages of a layer, in order, as a snapshot has them.
typedef struct skim_snapshot_pages {
    const skim_shape *shape;
    const uint32_t *slots;
    uint32_t count;
    uint32_t tail;       // tokens in the last page if it is not full, else 0
    uint64_t slot_bytes; // of one page
} skim_snapshot_pages;

skim_snapshot_pages skim_snapshot_pages_of(const skim_shape *shape, const uint32_t *slots,
                                           uint64_t tokens);

// A piece of them that lies in one piece in the pool.
typedef struct skim_snapshot_piece {
    uint64_t place; // in the pool's buffer
    uint64_t size;
    bool tail; // of the last page, which is not full
} skim_snapshot_piece;

// The piece at offset < count * slot_bytes, of at most limit bytes.
skim_snapshot_piece skim_snapshot_piece_at(const skim_snapshot_pages *pages, uint64_t offset,
                                           uint64_t limit);

// Part index < 2 * kv_heads of a page: the K or the V of a head, its valid tokens first.
typedef struct skim_snapshot_part {
    uint64_t begin, valid_end, end; // bytes from the page's start
} skim_snapshot_part;

skim_snapshot_part skim_snapshot_part_of(const skim_snapshot_pages *pages, uint32_t index);

// What a snapshot says of a layer of the cache.
skim_snapshot_layer skim_snapshot_layer_of(const skim_cache_layer *own, bool has_centre);

struct skim_snapshot {
    skim_cache *cache;
    skim_snapshot *next; // of the cache's
    skim_snapshot_save_args args;
    skim_snapshot_header header;
    uint64_t total, written;
    uint32_t *slots; // held
    uint32_t page_count;
    uint64_t point; // of the work that stores the tokens; 0: known to be done
    bool lost;      // that work failed
    skim_status failed;
    bool *centres;    // has_centre of each layer
    uint32_t section; // 0: the head, 1: the blob, then the layers
    uint64_t offset;  // in it
    skim_checksum checksum;
    uint8_t *memory;
    size_t memory_size;
};

#endif
