#include "runtime/snapshot.h"

#include "runtime/layer.h"
#include "runtime/progress.h"
#include "runtime/validate.h"

#include <string.h>

enum { SECTION_HEAD, SECTION_BLOB, SECTION_LAYERS };

// --- begin and end

static skim_status check_save(skim_sequence *sequence, const skim_snapshot_save_args *args,
                              skim_snapshot_save_args *taken)
{
    if (!sequence)
        return SKIM_INVALID;
    skim_error *error = &sequence->cache->error;
    if (!sequence->alive)
        return skim_fail(error, SKIM_INVALID, "the sequence was destroyed already");
    if (!skim_take(taken, sizeof *taken, args))
        return skim_fail(error, SKIM_INVALID, "args is NULL or its size_of is wrong");
    if (!taken->write)
        return skim_fail(error, SKIM_INVALID, "a save needs a write callback");
    if (!taken->blob && taken->blob_size > 0)
        return skim_fail(error, SKIM_INVALID, "blob is NULL and blob_size is not 0");
    if (sequence->broken)
        return skim_fail(error, SKIM_STATE,
                         "the sequence is broken: work that stored its tokens failed; truncate it "
                         "to %u or destroy it",
                         sequence->sound_length);
    return skim_cache_fail(sequence->cache, skim_queue_usable(sequence->cache->queue));
}

static void free_snapshot(skim_snapshot *snapshot)
{
    const skim_host *host = snapshot->cache->host;
    skim_release(host, snapshot->slots, snapshot->page_count * sizeof *snapshot->slots);
    skim_release(host, snapshot->centres, snapshot->cache->layer_count * sizeof(bool));
    skim_release(host, snapshot->memory, snapshot->memory_size);
    skim_release(host, snapshot, sizeof *snapshot);
}

static skim_snapshot *allocate_snapshot(skim_cache *cache, uint32_t page_count)
{
    skim_snapshot *made = skim_allocate(cache->host, sizeof *made);
    if (!made)
        return NULL;
    made->cache = cache;
    made->page_count = page_count;
    made->centres = skim_allocate(cache->host, cache->layer_count * sizeof(bool));
    if (page_count > 0)
        made->slots = skim_allocate(cache->host, page_count * sizeof *made->slots);
    if (made->centres && (made->slots || page_count == 0))
        return made;
    free_snapshot(made);
    return NULL;
}

// The slots that hold the sequence's tokens. In an open step, its last page may have moved to a
// slot that is not written yet; the old one stays as it was, up to the sequence's end.
static void hold_pages(skim_snapshot *snapshot, const skim_sequence *sequence)
{
    skim_cache *cache = snapshot->cache;
    const skim_step *step = &cache->step;
    size_t size = snapshot->page_count * sizeof *snapshot->slots;
    if (size > 0)
        memcpy(snapshot->slots, sequence->slots, size);
    for (uint32_t i = 0; sequence->in_step && i < step->count; i++) {
        const skim_step_member *member = &step->members[i];
        if (member->sequence == sequence && member->copied)
            snapshot->slots[sequence->length / cache->page_size] = member->old_slot;
    }
    skim_pool_share(&cache->pool, snapshot->slots, snapshot->page_count);
}

static bool plan_sections(skim_snapshot *snapshot, uint64_t tokens)
{
    const skim_cache *cache = snapshot->cache;
    snapshot->header = (skim_snapshot_header){.page_size = cache->page_size,
                                              .layer_count = cache->layer_count,
                                              .tokens = tokens,
                                              .blob_size = snapshot->args.blob_size};
    memcpy(snapshot->header.fingerprint, snapshot->args.fingerprint, SKIM_FINGERPRINT_SIZE);
    bool fits = skim_snapshot_size(&snapshot->header, &snapshot->total);
    for (uint32_t i = 0; i < cache->layer_count && fits; i++) {
        const skim_cache_layer *own = &cache->layers[i];
        // Without tokens the centre means nothing, and may be one that a cancel takes back.
        snapshot->centres[i] = own->frozen && tokens > 0;
        skim_snapshot_layer layer = skim_snapshot_layer_of(own, snapshot->centres[i]);
        fits = skim_snapshot_add_layer(&snapshot->header, &layer, &snapshot->total);
    }
    return fits;
}

skim_status skim_snapshot_begin(skim_sequence *sequence, const skim_snapshot_save_args *args,
                                skim_snapshot **snapshot)
{
    skim_snapshot_save_args taken;
    skim_status status = check_save(sequence, args, &taken);
    if (status != SKIM_OK)
        return status;
    skim_cache *cache = sequence->cache;
    if (!snapshot)
        return skim_fail(&cache->error, SKIM_INVALID, "snapshot must not be NULL");
    skim_snapshot *made = allocate_snapshot(cache, skim_cache_pages(cache, sequence->length));
    if (!made)
        return skim_fail(&cache->error, SKIM_NO_MEMORY, "no host memory for a snapshot");
    made->args = taken;
    if (!plan_sections(made, sequence->length)) {
        free_snapshot(made);
        return skim_fail(&cache->error, SKIM_INVALID, "the snapshot's size overflows 64 bits");
    }
    made->memory_size = skim_snapshot_memory(made->total);
    made->memory = skim_allocate(cache->host, made->memory_size);
    if (!made->memory) {
        free_snapshot(made);
        return skim_fail(&cache->error, SKIM_NO_MEMORY, "no host memory for a snapshot");
    }
    made->point = sequence->last_point;
    hold_pages(made, sequence);
    skim_checksum_begin(&made->checksum, 0);
    made->next = cache->snapshots;
    cache->snapshots = made;
    *snapshot = made;
    return SKIM_OK;
}

void skim_snapshot_end(skim_snapshot *snapshot)
{
    if (!snapshot)
        return;
    skim_cache *cache = snapshot->cache;
    skim_snapshot **link = &cache->snapshots;
    while (*link != snapshot)
        link = &(*link)->next;
    *link = snapshot->next;
    skim_pool_give_back(&cache->pool, snapshot->slots, snapshot->page_count);
    free_snapshot(snapshot);
}

void skim_snapshots_note_failure(skim_cache *cache, uint64_t reached)
{
    for (skim_snapshot *snapshot = cache->snapshots; snapshot; snapshot = snapshot->next)
        snapshot->lost = snapshot->lost || snapshot->point > reached;
}

// --- writing

static skim_status put(skim_snapshot *snapshot, const void *data, uint64_t size)
{
    skim_checksum_add(&snapshot->checksum, data, (size_t)size);
    if (snapshot->args.write(snapshot->args.user, data, (size_t)size) != 0)
        return skim_fail(&snapshot->cache->error, SKIM_FAILED,
                         "the write callback failed after %llu of %llu bytes of the snapshot",
                         (unsigned long long)snapshot->written,
                         (unsigned long long)snapshot->total);
    snapshot->written += size;
    snapshot->offset += size;
    return SKIM_OK;
}

// Writes the checksum of the section and goes on to the next.
static skim_status put_checksum(skim_snapshot *snapshot)
{
    uint8_t bytes[SKIM_SNAPSHOT_CHECKSUM_SIZE];
    skim_snapshot_store64(bytes, skim_checksum_value(&snapshot->checksum));
    skim_status status = put(snapshot, bytes, sizeof bytes);
    if (status == SKIM_OK) {
        skim_checksum_begin(&snapshot->checksum, 0);
        snapshot->offset = 0;
        snapshot->section++;
    }
    return status;
}

static skim_status put_head(skim_snapshot *snapshot)
{
    const skim_cache *cache = snapshot->cache;
    uint8_t *at = snapshot->memory; // of a whole piece, 4096 layers take an eighth
    skim_snapshot_emit_header(&snapshot->header, at);
    at += SKIM_SNAPSHOT_HEADER_SIZE;
    for (uint32_t i = 0; i < cache->layer_count; i++, at += SKIM_SNAPSHOT_RECORD_SIZE) {
        skim_snapshot_layer layer = skim_snapshot_layer_of(&cache->layers[i], snapshot->centres[i]);
        skim_snapshot_emit_layer(&layer, at);
    }
    skim_status status = put(snapshot, snapshot->memory, (uint64_t)(at - snapshot->memory));
    return status == SKIM_OK ? put_checksum(snapshot) : status;
}

static skim_status put_blob(skim_snapshot *snapshot)
{
    uint64_t left = snapshot->args.blob_size - snapshot->offset;
    if (left == 0)
        return put_checksum(snapshot);
    return put(snapshot, (const char *)snapshot->args.blob + snapshot->offset,
               left < SKIM_SNAPSHOT_PIECE_DIRECT ? left : SKIM_SNAPSHOT_PIECE_DIRECT);
}

// --- pages

// What stored the tokens must be done before the host looks at them.
static skim_status settle(skim_snapshot *snapshot)
{
    skim_queue *queue = snapshot->cache->queue;
    if (snapshot->point == 0)
        return SKIM_OK;
    skim_status status = SKIM_OK;
    if (snapshot->point > queue->submitted)
        status = skim_queue_finish(queue);
    else if (snapshot->point > queue->reached)
        status = skim_queue_wait(queue, snapshot->point, SKIM_WAIT_FOREVER);
    if (status == SKIM_OK)
        snapshot->point = 0;
    return skim_cache_fail(snapshot->cache, status);
}

static skim_status fetch(skim_snapshot *snapshot, skim_buffer *buffer, uint64_t place, void *data,
                         uint64_t size)
{
    if (!buffer->host)
        return skim_queue_download(snapshot->cache->queue, buffer, place, data, size);
    memcpy(data, (const char *)buffer->host + place, (size_t)size);
    return SKIM_OK;
}

// Fetches the valid tokens of a piece of the last page; the rest stays zero.
static skim_status fetch_tail(skim_snapshot *snapshot, const skim_snapshot_pages *pages,
                              skim_buffer *buffer, const skim_snapshot_piece *piece)
{
    uint64_t start = piece->place % pages->slot_bytes;
    skim_status status = SKIM_OK;
    memset(snapshot->memory, 0, (size_t)piece->size);
    for (uint32_t i = 0; i < 2 * pages->shape->kv_heads && status == SKIM_OK; i++) {
        skim_snapshot_part part = skim_snapshot_part_of(pages, i);
        uint64_t begin = part.begin > start ? part.begin : start;
        uint64_t end = start + piece->size;
        end = part.valid_end < end ? part.valid_end : end;
        if (begin < end)
            status = fetch(snapshot, buffer, piece->place + (begin - start),
                           snapshot->memory + (begin - start), end - begin);
    }
    return status;
}

// Writes size bytes that were fetched into the snapshot's memory, when they are there.
static skim_status put_fetched(skim_snapshot *snapshot, skim_status status, const skim_buffer *from,
                               uint64_t size, size_t width)
{
    skim_queue *queue = snapshot->cache->queue;
    if (!from->host && status == SKIM_OK)
        status = skim_queue_finish(queue);
    if (!from->host && status != SKIM_OK)
        skim_queue_drain(queue); // what was recorded must not outlive the memory it writes
    if (status != SKIM_OK)
        return skim_cache_fail(snapshot->cache, status);
    if (SKIM_BIG_ENDIAN)
        skim_snapshot_swap(snapshot->memory, size, width);
    return put(snapshot, snapshot->memory, size);
}

static skim_status put_pages(skim_snapshot *snapshot, const skim_cache_layer *own, uint64_t offset)
{
    skim_snapshot_pages pages =
        skim_snapshot_pages_of(&own->shape, snapshot->slots, snapshot->header.tokens);
    bool direct = own->pages->host && !SKIM_BIG_ENDIAN;
    skim_snapshot_piece piece = skim_snapshot_piece_at(
        &pages, offset, direct ? SKIM_SNAPSHOT_PIECE_DIRECT : SKIM_SNAPSHOT_PIECE);
    if (direct && !piece.tail)
        return put(snapshot, (const char *)own->pages->host + piece.place, piece.size);
    skim_status status =
        piece.tail ? fetch_tail(snapshot, &pages, own->pages, &piece)
                   : fetch(snapshot, own->pages, piece.place, snapshot->memory, piece.size);
    return put_fetched(snapshot, status, own->pages, piece.size, skim_type_size(own->shape.type));
}

static skim_status put_centre(skim_snapshot *snapshot, const skim_cache_layer *own, uint64_t size)
{
    uint64_t left = size - snapshot->offset;
    left = left < SKIM_SNAPSHOT_PIECE ? left : SKIM_SNAPSHOT_PIECE;
    skim_status status = fetch(snapshot, own->centre, snapshot->offset, snapshot->memory, left);
    return put_fetched(snapshot, status, own->centre, left, sizeof(float));
}

static skim_status put_layer(skim_snapshot *snapshot, uint32_t layer)
{
    const skim_cache_layer *own = &snapshot->cache->layers[layer];
    skim_snapshot_layer record = skim_snapshot_layer_of(own, snapshot->centres[layer]);
    uint64_t centre = skim_snapshot_centre_size(&record);
    uint64_t bytes = skim_layer_slot_bytes(&own->shape) * snapshot->page_count;
    if (snapshot->offset < centre)
        return put_centre(snapshot, own, centre);
    if (snapshot->offset < centre + bytes)
        return put_pages(snapshot, own, snapshot->offset - centre);
    return put_checksum(snapshot);
}

static skim_status put_piece(skim_snapshot *snapshot)
{
    if (snapshot->section == SECTION_HEAD)
        return put_head(snapshot);
    if (snapshot->section == SECTION_BLOB)
        return put_blob(snapshot);
    return put_layer(snapshot, snapshot->section - SECTION_LAYERS);
}

// --- run

static skim_status check_run(skim_snapshot *snapshot)
{
    skim_error *error = &snapshot->cache->error;
    if (snapshot->failed != SKIM_OK)
        return skim_fail(error, snapshot->failed, "this snapshot failed before; begin another");
    skim_status status =
        skim_cache_fail(snapshot->cache, skim_queue_usable(snapshot->cache->queue));
    if (status == SKIM_OK && snapshot->lost)
        status = skim_fail(error, SKIM_FAILED, "work that stored the snapshot's tokens failed");
    return status == SKIM_OK ? settle(snapshot) : status;
}

static skim_status write_some(skim_snapshot *snapshot, uint64_t bytes)
{
    skim_status status = check_run(snapshot);
    uint64_t start = snapshot->written;
    while (status == SKIM_OK && snapshot->written < snapshot->total) {
        status = put_piece(snapshot);
        if (status == SKIM_OK)
            status = skim_progress_report(snapshot->args.progress, snapshot->written,
                                          snapshot->total, &snapshot->cache->error);
        if (snapshot->written - start >= bytes)
            break;
    }
    return status;
}

skim_status skim_snapshot_run(skim_snapshot *snapshot, uint64_t bytes, uint64_t *left)
{
    if (!snapshot)
        return SKIM_INVALID;
    if (!left)
        return skim_fail(&snapshot->cache->error, SKIM_INVALID, "left must not be NULL");
    snapshot->failed = write_some(snapshot, bytes);
    if (snapshot->failed == SKIM_OK)
        *left = snapshot->total - snapshot->written;
    return snapshot->failed;
}

skim_status skim_snapshot_save(skim_sequence *sequence, const skim_snapshot_save_args *args)
{
    skim_snapshot *snapshot;
    uint64_t left;
    skim_status status = skim_snapshot_begin(sequence, args, &snapshot);
    if (status != SKIM_OK)
        return status;
    status = skim_snapshot_run(snapshot, UINT64_MAX, &left);
    skim_snapshot_end(snapshot);
    return status;
}
