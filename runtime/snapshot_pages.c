#include "runtime/snapshot.h"

#include "runtime/layer.h"

skim_snapshot_pages skim_snapshot_pages_of(const skim_shape *shape, const uint32_t *slots,
                                           uint64_t tokens)
{
    uint32_t tail = (uint32_t)(tokens % shape->page_size);
    return (skim_snapshot_pages){
        .shape = shape,
        .slots = slots,
        .count = (uint32_t)(tokens / shape->page_size) + (tail > 0),
        .tail = tail,
        .slot_bytes = skim_layer_slot_bytes(shape),
    };
}

skim_snapshot_piece skim_snapshot_piece_at(const skim_snapshot_pages *pages, uint64_t offset,
                                           uint64_t limit)
{
    uint32_t page = (uint32_t)(offset / pages->slot_bytes);
    uint64_t start = offset % pages->slot_bytes;
    // Pages in slots that follow each other make one piece, but for a last one that is not full.
    uint32_t full = pages->count - (pages->tail > 0);
    uint64_t size = pages->slot_bytes - start;
    for (uint32_t i = page + 1;
         i < full && pages->slots[i] == pages->slots[i - 1] + 1 && size < limit; i++)
        size += pages->slot_bytes;
    return (skim_snapshot_piece){.place = pages->slots[page] * pages->slot_bytes + start,
                                 .size = size < limit ? size : limit,
                                 .tail = page >= full};
}

skim_snapshot_part skim_snapshot_part_of(const skim_snapshot_pages *pages, uint32_t index)
{
    const skim_shape *shape = pages->shape;
    uint64_t width = skim_type_size(shape->type);
    uint64_t keys = shape->page_size * shape->key_dim * width;
    uint64_t values = shape->page_size * shape->value_dim * width;
    bool is_value = index % 2;
    uint64_t begin = index / 2 * (keys + values) + (is_value ? keys : 0);
    uint64_t size = is_value ? values : keys;
    return (skim_snapshot_part){.begin = begin,
                                .valid_end = begin + size / shape->page_size * pages->tail,
                                .end = begin + size};
}

skim_snapshot_layer skim_snapshot_layer_of(const skim_cache_layer *own, bool has_centre)
{
    const skim_shape *shape = &own->shape;
    return (skim_snapshot_layer){.kv_heads = shape->kv_heads,
                                 .key_dim = shape->key_dim,
                                 .value_dim = shape->value_dim,
                                 .type = shape->type,
                                 .has_centre = has_centre};
}
