// The cache's insides, shared by cache.c, sequence.c, step.c and selftest.c.
#ifndef SKIM_CACHE_PRIVATE_H
#define SKIM_CACHE_PRIVATE_H

#include "runtime/backend.h"
#include "runtime/pool.h"
#include "runtime/queue.h"

// Layers whose rows are the same share a class: one set of rows on the device for all of them.
typedef struct skim_policy_class {
    skim_policy policy;
    bool dense;
} skim_policy_class;

typedef struct skim_cache_layer {
    skim_layer layer;
    skim_shape shape;
    skim_buffer *pages;
    skim_buffer *bounds;
    skim_buffer *centre;   // of i8 bounds, else NULL
    bool frozen;           // the centre is set
    bool frozen_in_step;   // by the open step
    uint64_t freeze_point; // of the step that set it
    skim_policy policy;    // its own, if has_policy
    bool has_policy;
    uint32_t policy_class;
    bool appended; // in the open step
    bool attended;
    skim_step_report report;
} skim_cache_layer;

struct skim_sequence {
    skim_cache *cache;
    uint32_t index; // its place in cache->sequences and in the device's tables
    bool alive;
    bool in_step;
    bool broken;
    bool dirty_tail; // tokens past the end of its last page may be those that truncate cut off
    uint32_t length;
    uint32_t sound_length; // if its last step fails, so many tokens are left
    uint64_t last_point;   // of its last step
    uint32_t reserved;     // pages that truncate leaves it
    uint32_t page_count;   // slots held
    uint32_t uploaded;     // entries of its page table that are right on the device
    uint64_t begin_count;  // of the last begin that named it, to find one named twice
    uint32_t *slots;       // max_pages entries
};

typedef struct skim_step_member {
    skim_sequence *sequence;
    uint32_t tokens;
    uint32_t query_start;
    uint32_t old_pages;
    bool clear;        // what lies past its end is to be zeroed
    bool copied;       // its last page was shared, and has a slot of its own now
    uint32_t old_slot; // of that page; still held
    uint32_t sharers;  // of the first member with that page: how many of the members have it
    uint32_t longest;  // of those
} skim_step_member;

struct skim_step {
    skim_cache *cache;
    bool open;
    bool failed; // work submitted while it was open: it can only be cancelled
    uint32_t count;
    uint32_t token_count;
    skim_step_member *members; // max_sequences entries
    // The most recent attend.
    const skim_cache_layer *last; // NULL: none yet
    const skim_row *last_rows;
    skim_select_mode last_select;
};

struct skim_cache {
    skim_queue *queue;
    skim_cache *next_on_queue;
    const skim_host *host;
    skim_error error;
    uint32_t layer_count;
    skim_cache_layer *layers;
    uint32_t page_size;
    uint32_t max_sequences;
    uint32_t max_step_tokens;
    uint32_t max_pages; // of one sequence
    uint64_t max_sequence_tokens;
    bool keep_freed;
    skim_policy policy;
    uint32_t class_count;
    skim_policy_class *classes; // layer_count entries
    skim_pool pool;
    skim_sequence *sequences; // max_sequences entries
    uint32_t sequence_count;  // alive
    uint32_t *slots;          // max_sequences x max_pages: the sequences' page tables
    skim_row *rows; // (layer_count + 2) x max_sequences: per class, then a call's own, then pieces
    skim_buffer *tables;      // on the device: max_sequences x max_pages
    skim_buffer *rows_buffer; // on the device: as rows
    skim_buffer *scores;
    skim_buffer *lists;
    skim_cache_plan plan;
    uint64_t staging;
    bool prepared;
    uint32_t prepared_layers;
    uint64_t begin_count; // how often begin was called
    skim_step step;
    skim_snapshot *snapshots; // being saved
};

// Classes of rows besides the layers': those of an attend with a policy of its own, and those of a
// piece of a long attend.
enum { SKIM_ROWS_OWN, SKIM_ROWS_PIECE, SKIM_ROWS_EXTRA };

// Pages of so many tokens.
static inline uint32_t skim_cache_pages(const skim_cache *cache, uint64_t tokens)
{
    return (uint32_t)((tokens + cache->page_size - 1) / cache->page_size);
}

// Whether the last page is begun and shared: who adds tokens to it needs one of its own, unless all
// others are getting theirs.
bool skim_sequence_must_copy(const skim_sequence *sequence);

// Before more work is added to a sequence: if all of it is known to be done, all of it is sound.
void skim_sequence_settle(skim_sequence *sequence);

// Records the copying of a slot's K and V in every layer.
skim_status skim_cache_copy_slot(skim_cache *cache, uint32_t from, uint32_t to);

// An unused sequence, alive and empty; NULL, and the failure noted, if there is none.
skim_sequence *skim_sequence_take(skim_cache *cache);

// Submitted work after the point `reached` failed: whatever it was to store is not there.
void skim_cache_note_failure(skim_cache *cache, uint64_t reached);

// The part of it that snapshots being saved need to know.
void skim_snapshots_note_failure(skim_cache *cache, uint64_t reached);

// Turns a failure recorded on the queue into one of the cache's.
skim_status skim_cache_fail(skim_cache *cache, skim_status status);

// Runs the known-answer test of one layer's shape on the cache's queue.
skim_status skim_cache_self_test(skim_cache *cache, const skim_cache_layer *layer);

#endif
