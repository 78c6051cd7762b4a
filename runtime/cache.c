#include "runtime/cache.h"

#include "runtime/layer.h"
#include "runtime/policy.h"
#include "runtime/progress.h"
#include "runtime/validate.h"

#include <string.h>

// A build with mutants leaves it out: the suite must catch them, not prepare.
#ifdef SKIM_MUTANTS
enum { SELF_TEST = 0 };
#else
enum { SELF_TEST = 1 };
#endif

enum { DEFAULT_PAGE_SIZE = 16, DEFAULT_STEP_TOKENS = 512, LAYERS_MAX = 4096, TENSOR_PADDING = 256 };

skim_status skim_cache_fail(skim_cache *cache, skim_status status)
{
    if (status == SKIM_OK)
        return status;
    char text[SKIM_ERROR_SIZE];
    skim_error_copy(&cache->queue->base.error, text, sizeof text);
    return skim_fail(&cache->error, status, "%s", text);
}

// --- options and plan

static skim_status check_capacity(const skim_limits *limits, const skim_cache_options *options,
                                  skim_error *error)
{
    const struct {
        const char *name;
        uint64_t value;
        uint64_t limit;
    } fields[] = {
        {"capacity", options->capacity, (uint64_t)limits->slots_max * options->page_size},
        {"max_sequences", options->max_sequences, limits->rows_max},
        {"max_step_tokens", options->max_step_tokens, UINT32_MAX / 2},
        {"max_sequence_tokens", options->max_sequence_tokens,
         (uint64_t)limits->pages_max * options->page_size},
        {"max_sequence_tokens", options->max_sequence_tokens, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].value > fields[i].limit)
            return skim_fail(error, SKIM_UNSUPPORTED, "%s %llu; this device takes at most %llu",
                             fields[i].name, (unsigned long long)fields[i].value,
                             (unsigned long long)fields[i].limit);
    }
    return SKIM_OK;
}

static skim_status resolve_options(const skim_limits *limits, const skim_cache_options *options,
                                   skim_cache_options *taken, skim_error *error)
{
    if (!skim_take(taken, sizeof *taken, options))
        return skim_fail(error, SKIM_INVALID, "options is NULL or its size_of is wrong");
    if (!taken->layers || taken->layer_count == 0 || taken->layer_count > LAYERS_MAX)
        return skim_fail(error, SKIM_INVALID, "a cache has 1 to %d layers, not %u", LAYERS_MAX,
                         taken->layer_count);
    if (taken->page_size == 0)
        taken->page_size = DEFAULT_PAGE_SIZE;
    if (!skim_page_size_valid(taken->page_size))
        return skim_fail(error, SKIM_INVALID, "page_size %u; use 8, 16, 32 or 64",
                         taken->page_size);
    if (taken->capacity == 0)
        return skim_fail(error, SKIM_INVALID, "a capacity of 0 tokens holds nothing");
    if (taken->max_sequences == 0)
        taken->max_sequences = 1;
    if (taken->max_step_tokens == 0)
        taken->max_step_tokens = DEFAULT_STEP_TOKENS;
    if (taken->capacity > UINT64_MAX - taken->page_size)
        return skim_fail(error, SKIM_UNSUPPORTED, "capacity %llu; it overflows",
                         (unsigned long long)taken->capacity);
    taken->capacity = skim_round_up(taken->capacity, taken->page_size);
    if (taken->max_sequence_tokens == 0 || taken->max_sequence_tokens > taken->capacity)
        taken->max_sequence_tokens = taken->capacity;
    return check_capacity(limits, taken, error);
}

static uint32_t pages_of(uint64_t tokens, uint32_t page_size)
{
    return (uint32_t)(tokens / page_size + (tokens % page_size != 0));
}

static skim_status layer_shape(const skim_device *device, const skim_cache_options *options,
                               uint32_t index, skim_layer *layer, skim_shape *shape,
                               skim_error *error)
{
    skim_status status = skim_layer_check(options->layers, index, layer, error);
    if (status != SKIM_OK)
        return status;
    skim_shape wanted = {
        .size_of = sizeof wanted,
        .q_heads = layer->q_heads,
        .kv_heads = layer->kv_heads,
        .key_dim = layer->key_dim,
        .value_dim = layer->value_dim,
        .page_size = options->page_size,
        .type = layer->type,
        .bounds = options->bounds,
        .bounds_type = options->bounds_type,
        .slots = pages_of(options->capacity, options->page_size),
        .max_rows = options->max_sequences,
        .max_tokens = options->max_step_tokens,
        .max_pages = pages_of(options->max_sequence_tokens, options->page_size),
    };
    status = skim_shape_check(device, &wanted, shape, error);
    if (status != SKIM_OK) {
        char text[SKIM_ERROR_SIZE];
        skim_error_copy(error, text, sizeof text);
        skim_fail(error, status, "layer %u: %.*s", index, SKIM_ERROR_SIZE - 32, text);
    }
    return status;
}

// Adds a * b * c * d; false on overflow.
static bool add_product(uint64_t *sum, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return skim_multiply(a, b, &b) && skim_multiply(b, c, &c) && skim_multiply(c, d, &d) &&
           skim_add(*sum, d, sum);
}

typedef struct skim_totals {
    uint64_t pages, bounds;  // bounds with their centres
    uint64_t step_staging;   // of the largest layer, two steps deep
    uint64_t decode_staging; // of all layers, one token per sequence
    uint64_t queue_scratch;  // of the largest layer
    uint32_t q_heads;        // of the largest layer
} skim_totals;

static bool add_layer(const skim_device *device, const skim_shape *shape, skim_totals *totals)
{
    uint64_t bounds = device->backend->bounds_size(device, shape) + skim_layer_centre_bytes(shape);
    uint64_t staging = skim_shape_staging(shape);
    uint64_t scratch = device->backend->scratch_size(device, shape);
    if (staging > totals->step_staging)
        totals->step_staging = staging;
    if (scratch > totals->queue_scratch)
        totals->queue_scratch = scratch;
    if (shape->q_heads > totals->q_heads)
        totals->q_heads = shape->q_heads;
    return add_product(&totals->pages, shape->slots, skim_layer_slot_bytes(shape), 1, 1) &&
           skim_add(totals->bounds, bounds, &totals->bounds) &&
           add_product(&totals->decode_staging, skim_shape_token_bytes(shape), shape->max_rows, 1,
                       1) &&
           skim_add(totals->decode_staging, 8 * TENSOR_PADDING, &totals->decode_staging);
}

static bool host_size(const skim_cache_options *options, uint32_t max_pages, uint32_t slots,
                      uint64_t *bytes)
{
    *bytes = sizeof(skim_cache) + skim_pool_host_size(slots);
    return add_product(bytes, options->layer_count,
                       sizeof(skim_cache_layer) + sizeof(skim_policy_class), 1, 1) &&
           add_product(bytes, options->max_sequences,
                       sizeof(skim_sequence) + sizeof(skim_step_member), 1, 1) &&
           add_product(bytes, options->max_sequences, max_pages, sizeof(uint32_t), 1) &&
           add_product(bytes, options->max_sequences, options->layer_count + SKIM_ROWS_EXTRA,
                       sizeof(skim_row), 1);
}

static skim_status make_plan(skim_queue *queue, const skim_cache_options *options,
                             skim_cache_plan *plan, uint64_t *staging)
{
    skim_device *device = queue->base.device;
    skim_error *error = &queue->base.error;
    skim_totals totals = {0};
    skim_shape shape = {0};
    bool fits = true;
    for (uint32_t i = 0; i < options->layer_count && fits; i++) {
        skim_layer layer;
        skim_status status = layer_shape(device, options, i, &layer, &shape, error);
        if (status != SKIM_OK)
            return status;
        fits = add_layer(device, &shape, &totals);
    }
    if (fits && (uint64_t)options->max_sequences * shape.max_pages > UINT32_MAX)
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "page tables of %u sequences x %u pages; lower max_sequence_tokens",
                         options->max_sequences, shape.max_pages);
    *staging =
        totals.step_staging > totals.decode_staging ? totals.step_staging : totals.decode_staging;
    uint64_t scratch = 0, host = 0, sum = 0;
    fits = fits && host_size(options, shape.max_pages, shape.slots, &host) &&
           skim_add(*staging, totals.queue_scratch, &scratch) &&
           // tables, then scores and lists of every query head, then rows
           add_product(&scratch, options->max_sequences, shape.max_pages, sizeof(uint32_t), 1) &&
           add_product(&scratch, options->max_sequences, shape.max_pages, totals.q_heads,
                       sizeof(float) + sizeof(uint32_t)) &&
           add_product(&scratch, options->max_sequences, options->layer_count + SKIM_ROWS_EXTRA,
                       sizeof(skim_row), 1) &&
           skim_add(totals.pages, totals.bounds, &sum) && skim_add(sum, scratch, &sum);
    if (!fits)
        return skim_fail(error, SKIM_INVALID, "the size of this cache overflows 64 bits");
    *plan = (skim_cache_plan){
        .size_of = sizeof *plan,
        .slots = shape.slots,
        .page_bytes = totals.pages,
        .bounds_bytes = totals.bounds,
        .scratch_bytes = scratch,
        .host_bytes = host,
        .device_bytes = sum,
        .device_available = device->backend->memory_available(device),
    };
    return SKIM_OK;
}

skim_status skim_cache_plan_query(skim_queue *queue, const skim_cache_options *options,
                                  skim_cache_plan *plan)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    skim_cache_options taken;
    skim_cache_plan made;
    uint64_t staging;
    status = resolve_options(&queue->base.device->limits, options, &taken, &queue->base.error);
    if (status == SKIM_OK)
        status = make_plan(queue, &taken, &made, &staging);
    if (status == SKIM_OK && !skim_give(plan, &made, sizeof made))
        return skim_fail(&queue->base.error, SKIM_INVALID, "plan is NULL or its size_of is wrong");
    return status;
}

static skim_status check_memory(skim_queue *queue, const skim_cache_plan *plan)
{
    uint64_t wanted = plan->device_bytes;
    if (queue->base.device->limits.unified_memory)
        wanted += plan->host_bytes;
    if (plan->device_available == 0 || wanted <= plan->device_available)
        return SKIM_OK;
    return skim_fail(&queue->base.error, SKIM_NO_MEMORY,
                     "this cache wants %llu bytes and %llu are available; lower capacity, "
                     "max_sequences or max_sequence_tokens",
                     (unsigned long long)wanted, (unsigned long long)plan->device_available);
}

// --- policies

static skim_policy_class class_of(const skim_cache *cache, uint32_t layer)
{
    const skim_cache_layer *own = &cache->layers[layer];
    skim_policy policy = own->has_policy ? own->policy : cache->policy;
    return (skim_policy_class){.policy = policy, .dense = layer < policy.dense_layers};
}

static void classify_layers(skim_cache *cache)
{
    cache->class_count = 0;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        skim_policy_class wanted = class_of(cache, i);
        uint32_t c = 0;
        while (c < cache->class_count &&
               !(cache->classes[c].dense == wanted.dense &&
                 skim_policy_equal(&cache->classes[c].policy, &wanted.policy)))
            c++;
        if (c == cache->class_count)
            cache->classes[cache->class_count++] = wanted;
        cache->layers[i].policy_class = c;
    }
}

skim_status skim_cache_set_policy(skim_cache *cache, uint32_t layer, const skim_policy *policy)
{
    if (!cache)
        return SKIM_INVALID;
    if (layer != SKIM_ALL_LAYERS && layer >= cache->layer_count)
        return skim_fail(&cache->error, SKIM_INVALID, "layer %u of %u", layer, cache->layer_count);
    if (!policy && layer == SKIM_ALL_LAYERS)
        return skim_fail(&cache->error, SKIM_INVALID,
                         "the cache's own policy cannot be taken away");
    if (cache->step.open)
        return skim_fail(&cache->error, SKIM_STATE, "a step is open; end or cancel it first");
    skim_policy taken = {0};
    skim_status status = policy ? skim_policy_check(policy, &taken, &cache->error) : SKIM_OK;
    if (status != SKIM_OK)
        return status;
    if (layer == SKIM_ALL_LAYERS) {
        cache->policy = taken;
        for (uint32_t i = 0; i < cache->layer_count; i++)
            cache->layers[i].has_policy = false;
    } else {
        cache->layers[layer].policy = taken;
        cache->layers[layer].has_policy = policy != NULL;
    }
    classify_layers(cache);
    return SKIM_OK;
}

skim_status skim_cache_get_policy(const skim_cache *cache, uint32_t layer, skim_policy *policy)
{
    if (!cache || layer >= cache->layer_count)
        return SKIM_INVALID;
    skim_policy filled = class_of(cache, layer).policy;
    return skim_give(policy, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

// --- creation

static size_t row_count(const skim_cache *cache)
{
    return (size_t)cache->max_sequences * (cache->layer_count + SKIM_ROWS_EXTRA);
}

// Zeroes all of a buffer that computing may have written.
static void wipe(const skim_cache *cache, skim_buffer *buffer)
{
    skim_buffer_wipe(buffer, cache->pool.used > 0 ? skim_buffer_size(buffer) : 0);
}

static void free_cache(skim_cache *cache)
{
    const skim_host *host = cache->host;
    for (uint32_t i = 0; cache->layers && i < cache->layer_count; i++) {
        const skim_cache_layer *own = &cache->layers[i];
        // Memory that was never touched stays untouched.
        skim_buffer_wipe(own->pages, cache->pool.used * skim_layer_slot_bytes(&own->shape));
        wipe(cache, own->bounds);
        wipe(cache, own->centre);
    }
    wipe(cache, cache->tables);
    wipe(cache, cache->rows_buffer);
    wipe(cache, cache->scores);
    wipe(cache, cache->lists);
    skim_pool_deinit(host, &cache->pool);
    size_t sequences = cache->max_sequences;
    skim_release(host, cache->rows, row_count(cache) * sizeof *cache->rows);
    skim_release(host, cache->slots, sequences * cache->max_pages * sizeof *cache->slots);
    skim_release(host, cache->step.members, sequences * sizeof *cache->step.members);
    skim_release(host, cache->sequences, sequences * sizeof *cache->sequences);
    skim_release(host, cache->classes, cache->layer_count * sizeof *cache->classes);
    skim_release(host, cache->layers, cache->layer_count * sizeof *cache->layers);
    skim_error_deinit(&cache->error);
    skim_release(host, cache, sizeof *cache);
}

static skim_status allocate_host(skim_cache *cache)
{
    const skim_host *host = cache->host;
    size_t sequences = cache->max_sequences;
    cache->layers = skim_allocate(host, cache->layer_count * sizeof *cache->layers);
    cache->classes = skim_allocate(host, cache->layer_count * sizeof *cache->classes);
    cache->sequences = skim_allocate(host, sequences * sizeof *cache->sequences);
    cache->step.members = skim_allocate(host, sequences * sizeof *cache->step.members);
    cache->slots = skim_allocate(host, sequences * cache->max_pages * sizeof *cache->slots);
    cache->rows = skim_allocate(host, row_count(cache) * sizeof *cache->rows);
    bool complete = cache->layers && cache->classes && cache->sequences && cache->step.members &&
                    cache->slots && cache->rows;
    if (!complete || skim_pool_init(host, &cache->pool, cache->plan.slots) != SKIM_OK)
        return skim_fail(&cache->queue->base.error, SKIM_NO_MEMORY,
                         "no host memory for %llu bytes of a cache's bookkeeping",
                         (unsigned long long)cache->plan.host_bytes);
    return SKIM_OK;
}

static skim_status create_buffer(skim_cache *cache, uint64_t size, bool whole, skim_buffer **buffer)
{
    skim_device *device = cache->queue->base.device;
    skim_status status = skim_buffer_make(device, size, whole, 0, buffer);
    if (status != SKIM_OK) {
        char text[SKIM_ERROR_SIZE];
        skim_error_copy(&device->error, text, sizeof text);
        skim_fail(&cache->queue->base.error, status, "%s", text);
    }
    return status;
}

static skim_status allocate_layers(skim_cache *cache, const skim_cache_options *options)
{
    skim_device *device = cache->queue->base.device;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        skim_cache_layer *own = &cache->layers[i];
        skim_status status =
            layer_shape(device, options, i, &own->layer, &own->shape, &cache->queue->base.error);
        if (status == SKIM_OK)
            status = create_buffer(cache, own->shape.slots * skim_layer_slot_bytes(&own->shape),
                                   false, &own->pages);
        if (status == SKIM_OK)
            status = create_buffer(cache, device->backend->bounds_size(device, &own->shape), false,
                                   &own->bounds);
        if (status == SKIM_OK && skim_layer_centre_bytes(&own->shape) > 0)
            status = create_buffer(cache, skim_layer_centre_bytes(&own->shape), true, &own->centre);
        if (status != SKIM_OK)
            return status;
    }
    return SKIM_OK;
}

static skim_status allocate_shared(skim_cache *cache)
{
    uint32_t q_heads = 0;
    for (uint32_t i = 0; i < cache->layer_count; i++)
        q_heads =
            cache->layers[i].shape.q_heads > q_heads ? cache->layers[i].shape.q_heads : q_heads;
    uint64_t pages = (uint64_t)cache->max_sequences * cache->max_pages;
    skim_status status = create_buffer(cache, pages * sizeof(uint32_t), true, &cache->tables);
    if (status == SKIM_OK)
        status =
            create_buffer(cache, row_count(cache) * sizeof(skim_row), true, &cache->rows_buffer);
    if (status == SKIM_OK)
        status = create_buffer(cache, pages * q_heads * sizeof(float), true, &cache->scores);
    if (status == SKIM_OK)
        status = create_buffer(cache, pages * q_heads * sizeof(uint32_t), true, &cache->lists);
    return status;
}

static void link_sequences(skim_cache *cache)
{
    for (uint32_t i = 0; i < cache->max_sequences; i++) {
        cache->sequences[i] = (skim_sequence){
            .cache = cache, .index = i, .slots = cache->slots + (size_t)i * cache->max_pages};
    }
    cache->step.cache = cache;
}

skim_status skim_cache_create(skim_queue *queue, const skim_cache_options *options,
                              skim_cache **cache)
{
    skim_status status = skim_queue_usable(queue);
    if (status != SKIM_OK)
        return status;
    skim_error *error = &queue->base.error;
    if (!cache)
        return skim_fail(error, SKIM_INVALID, "cache must not be NULL");
    skim_cache_options taken;
    skim_cache_plan plan = {0};
    skim_policy policy = skim_policy_defaults();
    uint64_t staging = 0;
    status = resolve_options(&queue->base.device->limits, options, &taken, error);
    if (status == SKIM_OK && taken.policy)
        status = skim_policy_check(taken.policy, &policy, error);
    if (status == SKIM_OK)
        status = make_plan(queue, &taken, &plan, &staging);
    if (status == SKIM_OK)
        status = check_memory(queue, &plan);
    if (status != SKIM_OK)
        return status;

    const skim_host *host = queue->base.device->host;
    skim_cache *made = skim_allocate(host, sizeof *made);
    if (!made)
        return skim_fail(error, SKIM_NO_MEMORY, "no host memory for a cache");
    made->queue = queue;
    made->host = host;
    skim_error_init(&made->error);
    made->layer_count = taken.layer_count;
    made->page_size = taken.page_size;
    made->max_sequences = taken.max_sequences;
    made->max_step_tokens = taken.max_step_tokens;
    made->max_sequence_tokens = taken.max_sequence_tokens;
    made->max_pages = pages_of(taken.max_sequence_tokens, taken.page_size);
    made->keep_freed = taken.keep_freed;
    made->policy = policy;
    made->plan = plan;
    made->staging = staging;
    status = allocate_host(made);
    if (status == SKIM_OK)
        status = allocate_layers(made, &taken);
    if (status == SKIM_OK)
        status = allocate_shared(made);
    if (status != SKIM_OK) {
        free_cache(made);
        return status;
    }
    link_sequences(made);
    classify_layers(made);
    made->next_on_queue = queue->caches;
    queue->caches = made;
    *cache = made;
    return SKIM_OK;
}

void skim_cache_destroy(skim_cache *cache)
{
    if (!cache)
        return;
    skim_queue_drain(cache->queue);
    skim_cache **link = &cache->queue->caches;
    while (*link != cache)
        link = &(*link)->next_on_queue;
    *link = cache->next_on_queue;
    free_cache(cache);
}

static bool has_earlier_twin(const skim_cache *cache, uint32_t layer)
{
    for (uint32_t i = 0; i < layer; i++) {
        if (memcmp(&cache->layers[i].shape, &cache->layers[layer].shape, sizeof(skim_shape)) == 0)
            return true;
    }
    return false;
}

static skim_status prepare_layer(skim_cache *cache, uint32_t layer)
{
    skim_status status = skim_queue_prepare(cache->queue, &cache->layers[layer].shape);
    if (status == SKIM_OK && !has_earlier_twin(cache, layer) && SELF_TEST)
        status = skim_cache_self_test(cache, &cache->layers[layer]);
    return skim_cache_fail(cache, status);
}

skim_status skim_cache_prepare(skim_cache *cache, const skim_progress *progress)
{
    if (!cache)
        return SKIM_INVALID;
    if (cache->prepared)
        return SKIM_OK;
    skim_status status = skim_queue_finish(cache->queue);
    if (status == SKIM_OK)
        status = skim_queue_reserve_staging(cache->queue, cache->staging);
    if (status != SKIM_OK)
        return skim_cache_fail(cache, status);
    while (cache->prepared_layers < cache->layer_count && status == SKIM_OK) {
        status = prepare_layer(cache, cache->prepared_layers);
        if (status != SKIM_OK)
            return status;
        cache->prepared_layers++;
        status = skim_progress_report(progress, cache->prepared_layers, cache->layer_count,
                                      &cache->error);
    }
    cache->prepared = cache->prepared_layers == cache->layer_count;
    return status;
}

skim_status skim_cache_copy_slot(skim_cache *cache, uint32_t from, uint32_t to)
{
    skim_status status = SKIM_OK;
    for (uint32_t i = 0; i < cache->layer_count && status == SKIM_OK; i++) {
        const skim_cache_layer *own = &cache->layers[i];
        uint64_t size = skim_layer_slot_bytes(&own->shape);
        status =
            skim_queue_copy(cache->queue, own->pages, from * size, own->pages, to * size, size);
    }
    return skim_cache_fail(cache, status);
}

void skim_cache_note_failure(skim_cache *cache, uint64_t reached)
{
    if (cache->step.open)
        cache->step.failed = true;
    for (uint32_t i = 0; i < cache->max_sequences; i++) {
        skim_sequence *sequence = &cache->sequences[i];
        sequence->uploaded = 0; // entries of tables may have been among it
        if (sequence->alive && sequence->last_point > reached)
            sequence->broken = true;
    }
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        if (cache->layers[i].freeze_point > reached)
            cache->layers[i].frozen = false;
    }
    skim_snapshots_note_failure(cache, reached);
}

skim_status skim_cache_get_usage(const skim_cache *cache, skim_cache_usage *usage)
{
    if (!cache)
        return SKIM_INVALID;
    skim_cache_usage filled = {
        .slots = cache->pool.slots,
        .slots_free = cache->pool.free_count,
        .slots_shared = cache->pool.shared_count,
        .sequences = cache->sequence_count,
        .device_bytes = cache->plan.device_bytes,
    };
    return skim_give(usage, &filled, sizeof filled) ? SKIM_OK : SKIM_INVALID;
}

size_t skim_cache_error(const skim_cache *cache, char *text, size_t size)
{
    return cache ? skim_error_copy(&cache->error, text, size) : 0;
}
