// A load reads into slots of its own and checks everything; only then does the sequence change.
#include "runtime/snapshot.h"

#include "runtime/layer.h"
#include "runtime/progress.h"
#include "runtime/rows.h"
#include "runtime/validate.h"

#include <math.h>
#include <string.h>

// Where the bytes come from.
typedef struct skim_source {
    skim_read read;
    void *user;
    skim_error *error; // may be NULL
    skim_checksum checksum;
    uint64_t done; // bytes read
} skim_source;

typedef struct skim_load {
    skim_sequence *sequence;
    skim_cache *cache;
    skim_error *error;
    skim_snapshot_load_args args;
    skim_source source;
    skim_snapshot_header header;
    uint64_t total;
    uint32_t mismatch; // the first layer that is not the cache's; UINT32_MAX: none
    bool *centres;     // which layers' records have one
    uint32_t *slots;   // taken
    uint32_t page_count;
    uint8_t *memory;
    size_t memory_size;
} skim_load;

// --- reading

static skim_status pull(skim_source *source, void *data, uint64_t size)
{
    if (source->read(source->user, data, (size_t)size) != 0)
        return skim_fail(source->error, SKIM_FAILED,
                         "the read callback failed after %llu bytes of the snapshot",
                         (unsigned long long)source->done);
    skim_checksum_add(&source->checksum, data, (size_t)size);
    source->done += size;
    return SKIM_OK;
}

// Reads the checksum of what was read since the last one, and compares.
static skim_status pull_checksum(skim_source *source, const char *what)
{
    uint64_t wanted = skim_checksum_value(&source->checksum);
    uint8_t bytes[SKIM_SNAPSHOT_CHECKSUM_SIZE];
    skim_status status = pull(source, bytes, sizeof bytes);
    if (status == SKIM_OK && skim_snapshot_load64(bytes) != wanted)
        status = skim_fail(source->error, SKIM_INVALID,
                           "the snapshot is damaged: the checksum of its %s is wrong", what);
    skim_checksum_begin(&source->checksum, 0);
    return status;
}

static bool same_layer(const skim_snapshot_layer *layer, const skim_cache_layer *own)
{
    const skim_shape *shape = &own->shape;
    return layer->kv_heads == shape->kv_heads && layer->key_dim == shape->key_dim &&
           layer->value_dim == shape->value_dim && layer->type == shape->type;
}

// What a load keeps of a record. A difference is told when the checksum says that it is none of
// damage.
static void note_layer(skim_load *load, uint32_t index, const skim_snapshot_layer *layer)
{
    const skim_cache *cache = load->cache;
    if (index < cache->layer_count)
        load->centres[index] = layer->has_centre;
    if (load->mismatch == UINT32_MAX &&
        (index >= cache->layer_count || !same_layer(layer, &cache->layers[index])))
        load->mismatch = index;
}

// Reads header, records and their checksum. load may be NULL.
static skim_status pull_head(skim_source *source, skim_load *load, skim_snapshot_header *header,
                             uint64_t *total)
{
    uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE];
    skim_checksum_begin(&source->checksum, 0);
    skim_status status = pull(source, bytes, sizeof bytes);
    if (status == SKIM_OK)
        status = skim_snapshot_parse_header(bytes, header, source->error);
    if (status != SKIM_OK)
        return status;
    bool fits = skim_snapshot_size(header, total);
    for (uint32_t i = 0; i < header->layer_count; i++) {
        skim_snapshot_layer layer;
        status = pull(source, bytes, SKIM_SNAPSHOT_RECORD_SIZE);
        if (status == SKIM_OK)
            status = skim_snapshot_parse_layer(bytes, i, &layer, source->error);
        if (status != SKIM_OK)
            return status;
        fits = fits && skim_snapshot_add_layer(header, &layer, total);
        if (load)
            note_layer(load, i, &layer);
    }
    status = pull_checksum(source, "head");
    if (status == SKIM_OK && !fits)
        return skim_fail(source->error, SKIM_INVALID, "the snapshot's size overflows 64 bits");
    return status;
}

skim_status skim_snapshot_inspect(skim_read read, void *user, skim_snapshot_info *info)
{
    if (!read)
        return SKIM_INVALID;
    skim_source source = {.read = read, .user = user};
    skim_snapshot_header header;
    uint64_t total;
    skim_status status = pull_head(&source, NULL, &header, &total);
    if (status != SKIM_OK)
        return status;
    skim_snapshot_info filled = {
        .version = SKIM_SNAPSHOT_VERSION,
        .page_size = header.page_size,
        .layer_count = header.layer_count,
        .tokens = header.tokens,
        .blob_size = header.blob_size,
        .total_size = total,
    };
    memcpy(filled.fingerprint, header.fingerprint, sizeof filled.fingerprint);
    return skim_give(info, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

// --- what the head says, against the cache and the caller

static skim_status check_layers(const skim_load *load)
{
    const skim_cache *cache = load->cache;
    const skim_snapshot_header *header = &load->header;
    if (header->page_size != cache->page_size)
        return skim_fail(load->error, SKIM_UNSUPPORTED,
                         "the snapshot has pages of %u tokens and the cache pages of %u",
                         header->page_size, cache->page_size);
    if (header->layer_count != cache->layer_count)
        return skim_fail(load->error, SKIM_UNSUPPORTED,
                         "layers: %u in the snapshot, %u in the cache", header->layer_count,
                         cache->layer_count);
    if (load->mismatch != UINT32_MAX)
        return skim_fail(load->error, SKIM_UNSUPPORTED,
                         "layer %u of the snapshot has other heads, dimensions or type than the "
                         "cache's",
                         load->mismatch);
    return SKIM_OK;
}

static skim_status check_head(const skim_load *load)
{
    const skim_cache *cache = load->cache;
    const skim_snapshot_header *header = &load->header;
    if (memcmp(header->fingerprint, load->args.fingerprint, SKIM_FINGERPRINT_SIZE) != 0)
        return skim_fail(load->error, SKIM_INVALID,
                         "the snapshot has another fingerprint: it is not of this model");
    skim_status status = check_layers(load);
    if (status != SKIM_OK)
        return status;
    if (header->tokens > cache->max_sequence_tokens)
        return skim_fail(load->error, SKIM_INVALID,
                         "the snapshot's %llu tokens exceed the %llu that one sequence of this "
                         "cache can hold",
                         (unsigned long long)header->tokens,
                         (unsigned long long)cache->max_sequence_tokens);
    if (load->args.blob && header->blob_size > load->args.blob_capacity)
        return skim_fail(load->error, SKIM_INVALID,
                         "the snapshot's blob of %llu bytes exceeds the %llu there is room for",
                         (unsigned long long)header->blob_size,
                         (unsigned long long)load->args.blob_capacity);
    uint32_t pages = skim_cache_pages(cache, header->tokens);
    if (pages > cache->pool.free_count)
        return skim_fail(load->error, SKIM_NO_SLOTS,
                         "too few free slots (%u) for the snapshot, which needs %u",
                         cache->pool.free_count, pages);
    return SKIM_OK;
}

static skim_status check_load(skim_sequence *sequence, const skim_snapshot_load_args *args,
                              skim_snapshot_load_args *taken)
{
    if (!sequence)
        return SKIM_INVALID;
    skim_cache *cache = sequence->cache;
    if (!sequence->alive)
        return skim_fail(&cache->error, SKIM_INVALID, "the sequence was destroyed already");
    if (!skim_take(taken, sizeof *taken, args))
        return skim_fail(&cache->error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    if (!taken->read)
        return skim_fail(&cache->error, SKIM_INVALID, "a load needs a read callback");
    if (!taken->blob && taken->blob_capacity > 0)
        return skim_fail(&cache->error, SKIM_INVALID, "blob is NULL and blob_capacity is not 0");
    if (cache->step.open)
        return skim_fail(&cache->error, SKIM_STATE, "a step is open; end or cancel it first");
    return skim_cache_fail(cache, skim_queue_usable(cache->queue));
}

// --- blob, centres and pages

static skim_status report(const skim_load *load)
{
    return skim_progress_report(load->args.progress, load->source.done, load->total, load->error);
}

static skim_status pull_blob(skim_load *load)
{
    uint64_t size = load->header.blob_size;
    skim_status status = SKIM_OK;
    for (uint64_t at = 0; at < size && status == SKIM_OK;) {
        uint64_t left = size - at;
        left = left < SKIM_SNAPSHOT_PIECE_DIRECT ? left : SKIM_SNAPSHOT_PIECE_DIRECT;
        status = pull(&load->source,
                      load->args.blob ? (uint8_t *)load->args.blob + at : load->memory, left);
        if (status == SKIM_OK)
            status = report(load);
        at += left;
    }
    return status == SKIM_OK ? pull_checksum(&load->source, "blob") : status;
}

// Whether the snapshot's centre becomes the cache's, which has none yet.
static bool adopts(const skim_load *load, uint32_t layer)
{
    const skim_cache_layer *own = &load->cache->layers[layer];
    return own->centre && !own->frozen && load->centres[layer];
}

static skim_status check_centre(const skim_load *load, uint32_t layer, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += sizeof(float)) {
        float value;
        memcpy(&value, load->memory + i, sizeof value);
        if (!isfinite(value))
            return skim_fail(load->error, SKIM_INVALID,
                             "the snapshot's centre of layer %u is not finite", layer);
    }
    return SKIM_OK;
}

static skim_status pull_centre(skim_load *load, uint32_t layer)
{
    skim_cache_layer *own = &load->cache->layers[layer];
    skim_snapshot_layer record = skim_snapshot_layer_of(own, load->centres[layer]);
    uint64_t size = skim_snapshot_centre_size(&record);
    skim_status status = SKIM_OK;
    for (uint64_t at = 0; at < size && status == SKIM_OK;) {
        uint64_t left = size - at;
        left = left < SKIM_SNAPSHOT_PIECE ? left : SKIM_SNAPSHOT_PIECE;
        status = pull(&load->source, load->memory, left);
        if (SKIM_BIG_ENDIAN)
            skim_snapshot_swap(load->memory, left, sizeof(float));
        if (status == SKIM_OK)
            status = check_centre(load, layer, left);
        // While the cache has no centre, nothing uses what is there.
        if (status == SKIM_OK && adopts(load, layer))
            status = skim_cache_fail(load->cache, skim_queue_upload(load->cache->queue, own->centre,
                                                                    at, load->memory, left));
        at += left;
    }
    return status;
}

// What lies past the end of the last page must be zero.
static skim_status check_tail(const skim_load *load, const skim_snapshot_pages *pages,
                              const skim_snapshot_piece *piece, const uint8_t *data)
{
    uint64_t start = piece->place % pages->slot_bytes;
    uint8_t any = 0;
    for (uint32_t i = 0; i < 2 * pages->shape->kv_heads; i++) {
        skim_snapshot_part part = skim_snapshot_part_of(pages, i);
        uint64_t begin = part.valid_end > start ? part.valid_end : start;
        uint64_t end = start + piece->size;
        end = part.end < end ? part.end : end;
        for (uint64_t at = begin; at < end; at++)
            any |= data[at - start];
    }
    if (any)
        return skim_fail(load->error, SKIM_INVALID,
                         "the snapshot has something past the end of its last page");
    return SKIM_OK;
}

static skim_status pull_piece(skim_load *load, const skim_snapshot_pages *pages,
                              const skim_cache_layer *own, const skim_snapshot_piece *piece)
{
    bool direct = own->pages->host && !SKIM_BIG_ENDIAN;
    uint8_t *data = direct ? (uint8_t *)own->pages->host + piece->place : load->memory;
    skim_status status = pull(&load->source, data, piece->size);
    if (status == SKIM_OK && piece->tail)
        status = check_tail(load, pages, piece, data);
    if (status != SKIM_OK || direct)
        return status;
    if (SKIM_BIG_ENDIAN)
        skim_snapshot_swap(data, piece->size, skim_type_size(own->shape.type));
    return skim_cache_fail(load->cache, skim_queue_upload(load->cache->queue, own->pages,
                                                          piece->place, data, piece->size));
}

static skim_status pull_layer(skim_load *load, uint32_t layer)
{
    const skim_cache_layer *own = &load->cache->layers[layer];
    skim_snapshot_pages pages =
        skim_snapshot_pages_of(&own->shape, load->slots, load->header.tokens);
    uint64_t size = pages.count * pages.slot_bytes;
    uint64_t limit = own->pages->host ? SKIM_SNAPSHOT_PIECE_DIRECT : SKIM_SNAPSHOT_PIECE;
    skim_status status = pull_centre(load, layer);
    for (uint64_t at = 0; at < size && status == SKIM_OK;) {
        skim_snapshot_piece piece = skim_snapshot_piece_at(&pages, at, limit);
        status = pull_piece(load, &pages, own, &piece);
        if (status == SKIM_OK)
            status = report(load);
        at += piece.size;
    }
    if (status == SKIM_OK)
        status = pull_checksum(&load->source, "pages");
    return status == SKIM_OK ? report(load) : status;
}

// --- bounds

// The sequence's place in the device's tables and rows serves the new pages from here on. If the
// load fails, what it held is uploaded again by the next step.
static skim_status upload_table(const skim_load *load)
{
    skim_cache *cache = load->cache;
    skim_sequence *sequence = load->sequence;
    uint64_t start = (uint64_t)sequence->index * cache->max_pages;
    skim_row row = {
        .length = (uint32_t)load->header.tokens,
        .query_count = (uint32_t)load->header.tokens,
        .table_start = (uint32_t)start,
        .page_count = load->page_count,
        .select_count = 1,
        .forced_last = 1,
    };
    skim_tensor rows = skim_rows_tensor(cache, cache->layer_count + SKIM_ROWS_OWN);
    sequence->uploaded = 0;
    skim_status status =
        skim_queue_upload(cache->queue, cache->tables, start * sizeof(uint32_t), load->slots,
                          (uint64_t)load->page_count * sizeof(uint32_t));
    if (status == SKIM_OK)
        status = skim_queue_upload(cache->queue, rows.buffer, rows.offset, &row, sizeof row);
    return status;
}

static skim_status compute_bounds(const skim_load *load)
{
    skim_cache *cache = load->cache;
    skim_status status = load->page_count > 0 ? upload_table(load) : SKIM_OK;
    for (uint32_t i = 0; i < cache->layer_count && load->page_count > 0 && status == SKIM_OK; i++) {
        skim_append_args args =
            skim_cache_append_args(cache, &cache->layers[i], cache->layer_count + SKIM_ROWS_OWN, 1);
        if (adopts(load, i))
            args.freeze = 0;
        status = skim_append(cache->queue, &args);
    }
    // Also after a failure: nothing is left that would change a centre or a table later.
    skim_status finished = skim_queue_drain(cache->queue);
    return skim_cache_fail(cache, status == SKIM_OK ? finished : status);
}

// --- the change

static void freeze_centres(const skim_load *load)
{
    skim_cache *cache = load->cache;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        skim_cache_layer *own = &cache->layers[i];
        if (own->frozen || !own->centre || (!load->centres[i] && load->page_count == 0))
            continue;
        own->frozen = true;
        own->freeze_point = cache->queue->submitted; // reached
    }
}

// The new pages first, then those of the old ones that are reserved and not shared.
static void change_pages(const skim_load *load)
{
    skim_cache *cache = load->cache;
    skim_sequence *sequence = load->sequence;
    uint32_t room =
        sequence->reserved > load->page_count ? sequence->reserved - load->page_count : 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sequence->page_count; i++) {
        uint32_t slot = sequence->slots[i];
        if (kept < room && !skim_pool_is_shared(&cache->pool, slot)) {
            sequence->slots[i] = sequence->slots[kept];
            sequence->slots[kept++] = slot;
        }
    }
    skim_pool_give_back(&cache->pool, sequence->slots + kept, sequence->page_count - kept);
    memmove(sequence->slots + load->page_count, sequence->slots, kept * sizeof *sequence->slots);
    if (load->page_count > 0)
        memcpy(sequence->slots, load->slots, load->page_count * sizeof *sequence->slots);
    sequence->page_count = load->page_count + kept;
}

static void commit(const skim_load *load)
{
    skim_sequence *sequence = load->sequence;
    freeze_centres(load);
    change_pages(load);
    sequence->length = sequence->sound_length = (uint32_t)load->header.tokens;
    sequence->uploaded = load->page_count;
    sequence->broken = false;
    sequence->dirty_tail = false;
    sequence->last_point = 0; // all of it is done
    if (load->args.blob_size)
        *load->args.blob_size = load->header.blob_size;
}

// --- load

// What needs no number from the snapshot.
static skim_status allocate_centres(skim_load *load)
{
    load->centres = skim_allocate(load->cache->host, load->cache->layer_count * sizeof(bool));
    if (!load->centres)
        return skim_fail(load->error, SKIM_NO_MEMORY, "no host memory for a load");
    return SKIM_OK;
}

static void free_load(skim_load *load)
{
    const skim_host *host = load->cache->host;
    skim_release(host, load->slots, load->page_count * sizeof *load->slots);
    skim_release(host, load->centres, load->cache->layer_count * sizeof(bool));
    skim_release(host, load->memory, load->memory_size);
}

// The head was checked against the cache: there are as many free slots.
static skim_status take_slots(skim_load *load)
{
    skim_cache *cache = load->cache;
    uint32_t count = skim_cache_pages(cache, load->header.tokens);
    load->memory_size = skim_snapshot_memory(load->total);
    load->memory = skim_allocate(cache->host, load->memory_size);
    uint32_t *slots = count > 0 ? skim_allocate(cache->host, count * sizeof *slots) : NULL;
    if (!load->memory || (count > 0 && !slots)) {
        skim_release(cache->host, slots, count * sizeof *slots);
        return skim_fail(load->error, SKIM_NO_MEMORY, "no host memory for a load");
    }
    load->slots = slots;
    load->page_count = count;
    skim_pool_take(&cache->pool, slots, count);
    return SKIM_OK;
}

// Everything that can fail, in slots of the load's own.
static skim_status pull_all(skim_load *load)
{
    skim_cache *cache = load->cache;
    skim_status status = pull_head(&load->source, load, &load->header, &load->total);
    if (status == SKIM_OK)
        status = check_head(load);
    if (status == SKIM_OK)
        status = skim_cache_prepare(cache, NULL);
    // Earlier work may still use slots that are free now.
    if (status == SKIM_OK)
        status = skim_cache_fail(cache, skim_queue_finish(cache->queue));
    if (status == SKIM_OK)
        status = take_slots(load);
    if (status == SKIM_OK)
        status = pull_blob(load);
    for (uint32_t i = 0; i < cache->layer_count && status == SKIM_OK; i++)
        status = pull_layer(load, i);
    return status == SKIM_OK ? compute_bounds(load) : status;
}

skim_status skim_snapshot_load(skim_sequence *sequence, const skim_snapshot_load_args *args)
{
    skim_load load = {.sequence = sequence, .mismatch = UINT32_MAX};
    skim_status status = check_load(sequence, args, &load.args);
    if (status != SKIM_OK)
        return status;
    load.cache = sequence->cache;
    load.error = &load.cache->error;
    load.source =
        (skim_source){.read = load.args.read, .user = load.args.user, .error = load.error};
    status = allocate_centres(&load);
    if (status == SKIM_OK)
        status = pull_all(&load);
    if (status == SKIM_OK)
        commit(&load);
    else
        skim_pool_give_back(&load.cache->pool, load.slots, load.page_count);
    free_load(&load);
    return status;
}
