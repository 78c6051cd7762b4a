#include "tests/unit/snapshot_rig.h"

#include <stdlib.h>
#include <string.h>

// --- opening

static void *host_allocate(void *user, size_t size, size_t alignment)
{
    rig_host *host = user;
    if (++host->count == host->fail_at)
        return NULL;
    host->alive++;
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    return aligned_alloc(alignment, rounded);
}

static void host_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)size, (void)alignment;
    rig_host *host = user;
    host->alive--;
    free(memory);
}

static void set_options(rig *r)
{
    static const skim_layer layers[RIG_LAYERS] = {
        {.q_heads = 4, .kv_heads = 2, .key_dim = 32, .type = SKIM_F16},
        {.q_heads = 3, .kv_heads = 3, .key_dim = 40, .type = SKIM_F32},
        {.q_heads = 4, .kv_heads = 1, .key_dim = 64, .type = SKIM_BF16},
    };
    for (int i = 0; i < RIG_LAYERS; i++) {
        r->layers[i] = layers[i];
        r->layers[i].size_of = sizeof r->layers[i];
    }
    r->policy = skim_policy_defaults();
    r->policy.dense_layers = 0;
    r->policy.budget = 64;
    r->options = (skim_cache_options){.size_of = sizeof r->options,
                                      .layers = r->layers,
                                      .layer_count = RIG_LAYERS,
                                      .page_size = RIG_PAGE,
                                      .capacity = 80 * RIG_PAGE,
                                      .max_sequences = 4,
                                      .max_step_tokens = RIG_STEP_TOKENS,
                                      .policy = &r->policy};
}

void rig_open(rig *r, rig_kind kind)
{
    memset(r, 0, sizeof *r);
    r->kind = kind;
    set_options(r);
    skim_runtime_options options = {.size_of = sizeof options,
                                    .allocator = {host_allocate, host_release, &r->host}};
    if (kind == RIG_CPU) {
        assert_int_equal(skim_runtime_create(&options, &r->runtime), SKIM_OK);
        const skim_device_options device = {.size_of = sizeof device, .threads = 1};
        assert_int_equal(skim_device_open(r->runtime, "cpu", &device, &r->device), SKIM_OK);
    } else {
        const skim_registration registration = {"null", &null_backend};
        null_reset();
        null_control_now.unified = kind == RIG_NULL;
        assert_int_equal(skim_runtime_create_with(&options, &registration, 1, &r->runtime),
                         SKIM_OK);
        assert_int_equal(skim_device_open(r->runtime, "null", NULL, &r->device), SKIM_OK);
    }
    assert_int_equal(skim_queue_create(r->device, &r->queue), SKIM_OK);
    rig_cache(r);
}

void rig_cache(rig *r)
{
    skim_cache_destroy(r->cache);
    r->cache = NULL;
    assert_int_equal(skim_cache_create(r->queue, &r->options, &r->cache), SKIM_OK);
    assert_int_equal(skim_cache_prepare(r->cache, NULL), SKIM_OK);
}

void rig_open_i8(rig *r, rig_kind kind)
{
    rig_open(r, kind);
    r->options.bounds_type = SKIM_BOUNDS_I8;
    skim_cache_plan plan = {.size_of = sizeof plan};
    if (skim_cache_plan_query(r->queue, &r->options, &plan) == SKIM_UNSUPPORTED) {
        rig_close(r);
        skip();
    }
    rig_cache(r);
}

void rig_close(rig *r)
{
    skim_cache_destroy(r->cache);
    skim_queue_destroy(r->queue);
    skim_device_close(r->device);
    skim_runtime_destroy(r->runtime);
    assert_int_equal(r->host.alive, 0);
}

// --- tokens

static uint32_t hash(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t x = a * 0x9E3779B1u ^ b * 0x85EBCA77u ^ c * 0xC2B2AE3Du;
    x = (x ^ x >> 15) * 0x2C1B3C6Du;
    x = (x ^ x >> 12) * 0x297A2D39u;
    return x ^ x >> 15;
}

// A finite number of the type, of size about 1, from random bits.
static void store(void *data, skim_type type, size_t index, uint32_t bits)
{
    if (type == SKIM_F16) {
        ((uint16_t *)data)[index] = (uint16_t)((bits & 0x83ff) | (12 + (bits >> 16 & 3)) << 10);
    } else {
        uint32_t word = (bits & 0x807fffff) | (124 + (bits >> 24 & 3)) << 23;
        if (type == SKIM_F32)
            ((uint32_t *)data)[index] = word;
        else
            ((uint16_t *)data)[index] = (uint16_t)(word >> 16);
    }
}

static void fill(void *data, const skim_layer *layer, uint32_t heads, uint32_t first,
                 uint32_t tokens, uint32_t seed)
{
    size_t width = (size_t)heads * layer->key_dim;
    for (uint32_t t = 0; t < tokens; t++) {
        for (size_t i = 0; i < width; i++)
            store(data, layer->type, t * width + i, hash(seed, first + t, (uint32_t)i));
    }
}

skim_sequence *rig_sequence(rig *r)
{
    skim_sequence *sequence = NULL;
    assert_int_equal(skim_sequence_create(r->cache, &sequence), SKIM_OK);
    return sequence;
}

// Where the K of a token and head is; its V is page_size vectors further.
static uint8_t *token_place(const skim_sequence *sequence, const skim_cache_layer *own,
                            uint32_t token, uint32_t head)
{
    const skim_shape *shape = &own->shape;
    uint8_t *pool = own->pages->host ? own->pages->host : own->pages->impl; // the null backend's
    size_t vector = shape->key_dim * skim_type_size(shape->type);
    size_t slot = sequence->slots[token / shape->page_size];
    size_t heads = slot * shape->kv_heads + head;
    return pool + (heads * 2 * shape->page_size + token % shape->page_size) * vector;
}

// What append does, for a backend that does nothing.
static void put_tokens(const skim_sequence *sequence, const skim_cache_layer *own, uint32_t tokens,
                       const void *k, const void *v)
{
    const skim_shape *shape = &own->shape;
    size_t vector = shape->key_dim * skim_type_size(shape->type);
    for (uint32_t i = 0; i < tokens * shape->kv_heads; i++) {
        uint8_t *place =
            token_place(sequence, own, sequence->length + i / shape->kv_heads, i % shape->kv_heads);
        memcpy(place, (const uint8_t *)k + i * vector, vector);
        memcpy(place + shape->page_size * vector, (const uint8_t *)v + i * vector, vector);
    }
}

void rig_append_all(rig *r, skim_step *step, uint32_t tokens, uint32_t seed)
{
    static float k[RIG_STEP_TOKENS * 128], v[RIG_STEP_TOKENS * 128];
    uint32_t first = step->members[0].sequence->length;
    for (uint32_t i = 0; i < RIG_LAYERS; i++) {
        fill(k, &r->layers[i], r->layers[i].kv_heads, first, tokens, seed * 64 + 2 * i);
        fill(v, &r->layers[i], r->layers[i].kv_heads, first, tokens, seed * 64 + 2 * i + 1);
        skim_tensor kt = skim_tensor_host(k, r->layers[i].type);
        skim_tensor vt = skim_tensor_host(v, r->layers[i].type);
        assert_int_equal(skim_step_append(step, i, &kt, &vt), SKIM_OK);
        if (r->kind != RIG_CPU)
            put_tokens(step->members[0].sequence, &r->cache->layers[i], tokens, k, v);
    }
}

void rig_grow(rig *r, skim_sequence *sequence, uint32_t count, uint32_t seed)
{
    while (count > 0) {
        uint32_t part = count < RIG_STEP_TOKENS ? count : RIG_STEP_TOKENS;
        skim_step *step;
        skim_step_entry entry = {sequence, part};
        assert_int_equal(skim_step_begin(r->cache, &entry, 1, &step), SKIM_OK);
        rig_append_all(r, step, part, seed);
        assert_int_equal(skim_step_end(step, NULL), SKIM_OK);
        count -= part;
    }
}

skim_sequence *rig_grown(rig *r, uint32_t tokens, uint32_t seed)
{
    skim_sequence *sequence = rig_sequence(r);
    rig_grow(r, sequence, tokens, seed);
    return sequence;
}

// --- files

int rig_write(void *user, const void *data, size_t size)
{
    rig_file *file = user;
    assert_true(size > 0);
    if (++file->calls == file->fail_at)
        return 1;
    if (file->size + size > file->capacity) {
        file->capacity = 2 * (file->size + size);
        file->data = realloc(file->data, file->capacity);
        assert_non_null(file->data);
    }
    memcpy(file->data + file->size, data, size);
    file->size += size;
    return 0;
}

int rig_read(void *user, void *data, size_t size)
{
    rig_file *file = user;
    assert_true(size > 0);
    if (++file->calls == file->fail_at || size > file->size - file->at)
        return 1;
    memcpy(data, file->data + file->at, size);
    file->at += size;
    return 0;
}

void rig_rewind(rig_file *file)
{
    file->at = 0;
    file->calls = file->fail_at = 0;
}

void rig_file_free(rig_file *file)
{
    free(file->data);
    *file = (rig_file){0};
}

skim_snapshot_save_args rig_save_args(rig_file *file)
{
    return (skim_snapshot_save_args){
        .size_of = sizeof(skim_snapshot_save_args), .write = rig_write, .user = file};
}

skim_snapshot_load_args rig_load_args(rig_file *file)
{
    return (skim_snapshot_load_args){
        .size_of = sizeof(skim_snapshot_load_args), .read = rig_read, .user = file};
}

void rig_save(skim_sequence *sequence, rig_file *file)
{
    skim_snapshot_save_args args = rig_save_args(file);
    assert_int_equal(skim_snapshot_save(sequence, &args), SKIM_OK);
}

skim_status rig_load(skim_sequence *sequence, rig_file *file)
{
    rig_rewind(file);
    skim_snapshot_load_args args = rig_load_args(file);
    return skim_snapshot_load(sequence, &args);
}

// --- what must be the same

static size_t token_bytes(const skim_cache *cache)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        const skim_shape *shape = &cache->layers[i].shape;
        bytes += 2 * shape->kv_heads * shape->key_dim * skim_type_size(shape->type);
    }
    return bytes;
}

static uint8_t *take_token(uint8_t *to, const skim_sequence *sequence, const skim_cache_layer *own,
                           uint32_t token)
{
    const skim_shape *shape = &own->shape;
    size_t vector = shape->key_dim * skim_type_size(shape->type);
    for (uint32_t h = 0; h < shape->kv_heads; h++) {
        const uint8_t *at = token_place(sequence, own, token, h);
        memcpy(to, at, vector);
        memcpy(to + vector, at + shape->page_size * vector, vector);
        to += 2 * vector;
    }
    return to;
}

rig_payload rig_payload_of(const skim_sequence *sequence)
{
    const skim_cache *cache = sequence->cache;
    rig_payload payload = {.size = sequence->length * token_bytes(cache)};
    payload.data = malloc(payload.size + 1);
    uint8_t *at = payload.data;
    assert_non_null(at);
    assert_int_equal(skim_queue_finish(cache->queue), SKIM_OK);
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        for (uint32_t t = 0; t < sequence->length; t++)
            at = take_token(at, sequence, &cache->layers[i], t);
    }
    assert_ptr_equal(at, payload.data + payload.size);
    return payload;
}

void rig_payload_free(rig_payload *payload)
{
    free(payload->data);
}

void rig_assert_same_payload(const skim_sequence *a, const skim_sequence *b)
{
    rig_payload first = rig_payload_of(a), second = rig_payload_of(b);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
    rig_payload_free(&first);
    rig_payload_free(&second);
}

static void take_lists(rig *r, skim_step *step, uint32_t layer, rig_probe *probe)
{
    skim_step_report report = {.size_of = sizeof report};
    assert_int_equal(skim_step_get_report(step, layer, &report), SKIM_OK);
    probe->sparse += report.sparse_sequences;
    for (uint32_t h = 0; h < r->layers[layer].q_heads; h++) {
        uint32_t count = 0, used = probe->list_size[layer];
        assert_int_equal(
            skim_step_pages(step, 0, h, probe->lists[layer] + used, RIG_LIST - used, &count),
            SKIM_OK);
        probe->list_size[layer] += count;
    }
}

void rig_probe_take(rig *r, skim_sequence *sequence, uint32_t seed, rig_probe *probe)
{
    static float q[RIG_OUT];
    memset(probe, 0, sizeof *probe);
    skim_step *step;
    skim_step_entry entry = {sequence, 1};
    assert_int_equal(skim_step_begin(r->cache, &entry, 1, &step), SKIM_OK);
    rig_append_all(r, step, 1, seed);
    for (uint32_t i = 0; i < RIG_LAYERS; i++) {
        skim_layer in_f32 = r->layers[i];
        in_f32.type = SKIM_F32;
        fill(q, &in_f32, in_f32.q_heads, 0, 1, seed + 1000);
        skim_step_attend_args args = {.size_of = sizeof args,
                                      .q = skim_tensor_host(q, SKIM_F32),
                                      .out = skim_tensor_host(probe->out[i], SKIM_F32)};
        assert_int_equal(skim_step_attend(step, i, &args), SKIM_OK);
        take_lists(r, step, i, probe);
    }
    assert_int_equal(skim_queue_finish(r->queue), SKIM_OK);
    skim_step_cancel(step);
}

void rig_assert_same_probe(const rig_probe *a, const rig_probe *b)
{
    assert_memory_equal(a->lists, b->lists, sizeof a->lists);
    assert_memory_equal(a->list_size, b->list_size, sizeof a->list_size);
    assert_memory_equal(a->out, b->out, sizeof a->out);
    assert_int_equal(a->sparse, b->sparse);
}

rig_state rig_state_of(const skim_sequence *sequence)
{
    const skim_cache *cache = sequence->cache;
    rig_state state;
    memset(&state, 0, sizeof state);
    state.info.size_of = sizeof state.info;
    state.usage.size_of = sizeof state.usage;
    assert_int_equal(skim_sequence_get_info(sequence, &state.info), SKIM_OK);
    assert_int_equal(skim_cache_get_usage(cache, &state.usage), SKIM_OK);
    memcpy(state.slots, sequence->slots, sequence->page_count * sizeof(uint32_t));
    memcpy(state.free_slots, cache->pool.free_slots, cache->pool.free_count * sizeof(uint32_t));
    memcpy(state.references, cache->pool.references, cache->pool.slots * sizeof(uint32_t));
    for (uint32_t i = 0; i < cache->layer_count; i++)
        state.frozen[i] = cache->layers[i].frozen;
    return state;
}

// Field by field: what lies between them is anything.
void rig_assert_same_state(const rig_state *a, const rig_state *b)
{
    assert_int_equal(a->info.length, b->info.length);
    assert_int_equal(a->info.broken, b->info.broken);
    assert_int_equal(a->info.sound_length, b->info.sound_length);
    assert_int_equal(a->info.reserved, b->info.reserved);
    assert_int_equal(a->info.slots, b->info.slots);
    assert_int_equal(a->info.slots_shared, b->info.slots_shared);
    assert_int_equal(a->usage.slots_free, b->usage.slots_free);
    assert_int_equal(a->usage.slots_shared, b->usage.slots_shared);
    assert_int_equal(a->usage.sequences, b->usage.sequences);
    assert_memory_equal(a->slots, b->slots, sizeof a->slots);
    assert_memory_equal(a->free_slots, b->free_slots, sizeof a->free_slots);
    assert_memory_equal(a->references, b->references, sizeof a->references);
    assert_memory_equal(a->frozen, b->frozen, sizeof a->frozen);
}
