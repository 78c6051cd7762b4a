// The bytes of a snapshot, as docs/snapshot.md describes them: header, layer records and sizes.
// Pure functions of bytes; what they are given may lie about everything.
#ifndef SKIM_SNAPSHOT_FORMAT_H
#define SKIM_SNAPSHOT_FORMAT_H

#include "runtime/error.h"
#include "skim/snapshot.h"

#include <stdbool.h>

enum {
    SKIM_SNAPSHOT_VERSION = 1,
    SKIM_SNAPSHOT_HEADER_SIZE = 96,
    SKIM_SNAPSHOT_RECORD_SIZE = 32,
    SKIM_SNAPSHOT_CHECKSUM_SIZE = 8,
    SKIM_SNAPSHOT_LAYERS_MAX = 4096,
    SKIM_SNAPSHOT_HEADS_MAX = 65535, // kv_heads, key_dim and value_dim are at most this
};

typedef struct skim_snapshot_header {
    uint32_t page_size;
    uint32_t layer_count;
    uint64_t tokens;
    uint64_t blob_size;
    uint8_t fingerprint[SKIM_FINGERPRINT_SIZE];
} skim_snapshot_header;

typedef struct skim_snapshot_layer {
    uint32_t kv_heads;
    uint32_t key_dim;
    uint32_t value_dim;
    skim_type type;
    bool has_centre;
} skim_snapshot_layer;

void skim_snapshot_store64(uint8_t bytes[8], uint64_t value);
uint64_t skim_snapshot_load64(const uint8_t bytes[8]);

void skim_snapshot_emit_header(const skim_snapshot_header *header,
                               uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE]);
void skim_snapshot_emit_layer(const skim_snapshot_layer *layer,
                              uint8_t bytes[SKIM_SNAPSHOT_RECORD_SIZE]);

// Check everything that the bytes alone can tell; SKIM_INVALID, or SKIM_UNSUPPORTED for a later
// version. The checksum of the records is the caller's to compare. error may be NULL.
skim_status skim_snapshot_parse_header(const uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE],
                                       skim_snapshot_header *header, skim_error *error);
skim_status skim_snapshot_parse_layer(const uint8_t bytes[SKIM_SNAPSHOT_RECORD_SIZE],
                                      uint32_t index, skim_snapshot_layer *layer,
                                      skim_error *error);

// Bytes of the snapshot without its layers' sections; false if 64 bits do not hold them.
bool skim_snapshot_size(const skim_snapshot_header *header, uint64_t *total);

// Adds those of a checked layer.
bool skim_snapshot_add_layer(const skim_snapshot_header *header, const skim_snapshot_layer *layer,
                             uint64_t *total);

// Bytes of a checked layer's centre.
uint64_t skim_snapshot_centre_size(const skim_snapshot_layer *layer);

// Turns elements of `width` bytes from the file's order to a big-endian host's, or back.
void skim_snapshot_swap(void *data, uint64_t size, size_t width);

#endif
