#include "tests/fault/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 8, THREADS = 2, ATTEMPTS_MAX = 8 };

void world_problem(world *w, const char *format, ...)
{
    if (w->problem[0])
        return;
    int used = w->call ? snprintf(w->problem, sizeof w->problem, "%s: ", w->call) : 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(w->problem + used, sizeof w->problem - (size_t)used, format, arguments);
    va_end(arguments);
}

void world_result(world *w, const void *data, size_t size)
{
    if (w->result_size + size > WORLD_RESULTS) {
        world_problem(w, "there is no room for so many results");
        return;
    }
    memcpy(w->results + w->result_size, data, size);
    w->result_size += size;
}

// --- judging a call

static void capture(const world *w, world_state *state)
{
    const skim_cache *cache = w->cache;
    memset(state, 0, sizeof *state);
    state->has_cache = cache != NULL;
    if (!cache)
        return;
    state->free_count = cache->pool.free_count;
    state->shared_count = cache->pool.shared_count;
    state->sequence_count = cache->sequence_count;
    memcpy(state->free_slots, cache->pool.free_slots, cache->pool.free_count * sizeof(uint32_t));
    memcpy(state->references, cache->pool.references, cache->pool.slots * sizeof(uint32_t));
    state->policy = cache->policy;
    state->step_open = cache->step.open;
    for (uint32_t i = 0; i < cache->layer_count; i++) {
        state->has_policy[i] = cache->layers[i].has_policy;
        if (state->has_policy[i])
            state->layer_policies[i] = cache->layers[i].policy;
        state->appended[i] = state->step_open && cache->layers[i].appended;
        state->attended[i] = state->step_open && cache->layers[i].attended;
    }
    if (state->step_open) {
        state->step_count = cache->step.count;
        state->step_tokens = cache->step.token_count;
    }
    for (uint32_t i = 0; i < cache->max_sequences; i++) {
        const skim_sequence *sequence = &cache->sequences[i];
        state->sequences[i].alive = sequence->alive;
        if (!sequence->alive)
            continue;
        state->sequences[i].in_step = sequence->in_step;
        state->sequences[i].broken = sequence->broken;
        state->sequences[i].length = sequence->length;
        state->sequences[i].page_count = sequence->page_count;
        state->sequences[i].reserved = sequence->reserved;
        memcpy(state->sequences[i].slots, sequence->slots, sequence->page_count * sizeof(uint32_t));
    }
}

static world_sequence *model_of(world *w, uint32_t index)
{
    for (uint32_t i = 0; i < WORLD_SEQUENCES; i++) {
        if (w->sequences[i].handle == &w->cache->sequences[index])
            return &w->sequences[i];
    }
    return NULL;
}

// Submitted work failed: sequences whose tokens it was to store may be broken, and no others.
static void check_broken(world *w, world_state *after)
{
    for (uint32_t i = 0; i < w->cache->max_sequences; i++) {
        if (!after->sequences[i].broken || w->before.sequences[i].broken)
            continue;
        after->sequences[i].broken = false;
        const world_sequence *model = model_of(w, i);
        const skim_sequence *sequence = &w->cache->sequences[i];
        if (!model)
            continue; // of the call's own
        if (!model->touched)
            world_problem(w, "sequence %u is broken, though nothing of it was in flight", i);
        if (sequence->sound_length < model->sound || sequence->sound_length > sequence->length)
            world_problem(w, "sequence %u has %u sound tokens; of %u, %u were known to be stored",
                          i, sequence->sound_length, sequence->length, model->sound);
    }
}

static void check_unchanged(world *w, bool work_failed)
{
    static world_state after;
    capture(w, &after);
    if (work_failed && after.has_cache)
        check_broken(w, &after);
    const world_state *before = &w->before;
    if (before->has_cache != after.has_cache)
        world_problem(w, "the failed call made a cache");
    if (before->free_count != after.free_count || before->shared_count != after.shared_count)
        world_problem(w, "%u slots were free and %u shared; after the failure %u and %u",
                      before->free_count, before->shared_count, after.free_count,
                      after.shared_count);
    if (memcmp(before->free_slots, after.free_slots, sizeof after.free_slots) != 0)
        world_problem(w, "the stack of free slots is not as it was");
    if (memcmp(before->references, after.references, sizeof after.references) != 0)
        world_problem(w, "the references of slots are not as they were");
    if (memcmp(&before->policy, &after.policy, sizeof after.policy) != 0 ||
        memcmp(before->layer_policies, after.layer_policies, sizeof after.layer_policies) != 0 ||
        memcmp(before->has_policy, after.has_policy, sizeof after.has_policy) != 0)
        world_problem(w, "a policy is not as it was");
    if (before->step_open != after.step_open || before->step_count != after.step_count ||
        before->step_tokens != after.step_tokens)
        world_problem(w, "the step is not as it was");
    if (memcmp(before->appended, after.appended, sizeof after.appended) != 0 ||
        memcmp(before->attended, after.attended, sizeof after.attended) != 0)
        world_problem(w, "the step's layers are not as they were");
    if (before->sequence_count != after.sequence_count ||
        memcmp(before->sequences, after.sequences, sizeof after.sequences) != 0)
        world_problem(w, "a sequence is not as it was");
}

static skim_error *error_of(world *w, world_object object)
{
    if (object == ON_RUNTIME && w->runtime)
        return &w->runtime->error;
    if (object == ON_DEVICE && w->device)
        return &w->device->error;
    if (object == ON_QUEUE && w->queue)
        return &w->queue->base.error;
    return object == ON_CACHE && w->cache ? &w->cache->error : NULL;
}

static bool step_failed(const world *w)
{
    return w->cache && w->cache->step.open && w->cache->step.failed;
}

void world_before(world *w, world_object object, const char *call)
{
    w->call = call;
    w->object = object;
    w->fired_before = fault_now.fired;
    w->writes_before = fault_host_writes();
    w->step_failed_before = step_failed(w);
    // So that a stale sentence is not taken for one of this call.
    for (int o = ON_RUNTIME; o <= ON_CACHE; o++) {
        skim_error *error = error_of(w, (world_object)o);
        if (error) {
            skim_mutex_lock(&error->mutex);
            error->text[0] = '\0';
            skim_mutex_unlock(&error->mutex);
        }
    }
    capture(w, &w->before);
}

static void check_failure(world *w, skim_status status)
{
    char text[SKIM_ERROR_SIZE] = "";
    skim_error *error = error_of(w, w->object);
    if (error)
        skim_error_copy(error, text, sizeof text);
    // Work fails later than its submission; a device can be lost where nothing can say so.
    bool tells_later = fault_now.plan.kind == FAULT_WORK || fault_now.plan.kind == FAULT_LOSS;
    bool fired = fault_now.fired > (tells_later ? 0 : w->fired_before);
    if (w->step_failed_before && status == SKIM_FAILED) {
        check_unchanged(w, false);
        return; // says that the step is to be cancelled
    }
    if (!fired)
        world_problem(w, "failed (%s: \"%s\"), and no fault was injected", skim_status_name(status),
                      text);
    if (!fault_permits(status))
        world_problem(w, "answered \"%s\" (\"%s\"), which the fault does not mean",
                      skim_status_name(status), text);
    if (w->object != ON_NONE && strlen(text) < 8)
        world_problem(w, "left no sentence (\"%s\") with the failure", text);
    // What could not be submitted at all counts as failed work.
    check_unchanged(w, fault_now.plan.kind == FAULT_WORK || step_failed(w));
    if (fault_host_writes_pending(w->writes_before) > 0)
        world_problem(w, "failed, and will yet write to the host's memory");
}

// After a success.
static void check_success(world *w)
{
    uint32_t fired = fault_now.fired - w->fired_before;
    if (fired > 0 && !fault_permits_success(w->device))
        world_problem(w, "succeeded, though a call that it made failed");
    if (fault_now.plan.kind != FAULT_WORK)
        w->absorbed += fired;
}

bool world_again(world *w, skim_status status)
{
    if (fault_now.violation[0])
        world_problem(w, "%s", fault_now.violation);
    if (status == SKIM_OK) {
        check_success(w);
        w->attempts = 0;
        return false;
    }
    check_failure(w, status);
    if (w->problem[0] || status == SKIM_DEVICE_LOST)
        return false;
    if (++w->attempts > ATTEMPTS_MAX) {
        world_problem(w, "fails for ever");
        return false;
    }
    // One that persists is met twice, and then ends.
    if (++w->failures >= 2)
        fault_lift();
    if (w->step_failed_before && status == SKIM_FAILED)
        return false;
    if (fault_now.plan.kind == FAULT_WORK && w->cache)
        return w->nested == 0 && world_heal(w) == SKIM_OK;
    return true;
}

void world_done(world *w)
{
    for (uint32_t i = 0; i < WORLD_SEQUENCES; i++) {
        w->sequences[i].touched = false;
        w->sequences[i].sound = (uint32_t)skim_sequence_length(w->sequences[i].handle);
    }
}

// --- life

static skim_status open_device(world *w)
{
    const skim_device_options options = {
        .size_of = sizeof options, .disable = fault_now.variant.disable, .threads = THREADS};
    DO(w, ON_RUNTIME, skim_device_open(w->runtime, fault_selector(), &options, &w->device));
    fault_opened(w->device);
    DO(w, ON_DEVICE, skim_queue_create(w->device, &w->queue));
    static const struct {
        uint32_t q_heads, kv_heads, dim;
        skim_type type;
    } shapes[WORLD_LAYERS] = {{4, 2, 32, SKIM_F32}, {4, 2, 64, SKIM_F16}, {2, 2, 32, SKIM_BF16}};
    for (int i = 0; i < WORLD_LAYERS; i++)
        w->layers[i] = (skim_layer){.size_of = sizeof(skim_layer),
                                    .q_heads = shapes[i].q_heads,
                                    .kv_heads = shapes[i].kv_heads,
                                    .key_dim = shapes[i].dim,
                                    .type = shapes[i].type};
    w->policy = skim_policy_defaults();
    w->policy.budget = 3 * PAGE;
    w->policy.dense_layers = 1;
    const uint64_t capacity = fault_now.variant.capacity ? fault_now.variant.capacity : 512;
    const skim_cache_options cache = {
        .size_of = sizeof cache,
        .layers = w->layers,
        .layer_count = WORLD_LAYERS,
        .page_size = PAGE,
        .capacity = w->wanted.capacity ? w->wanted.capacity : capacity,
        .max_sequences = WORLD_SEQUENCES,
        .max_step_tokens = w->wanted.step_tokens ? w->wanted.step_tokens : 64,
        .max_sequence_tokens = w->wanted.sequence_tokens,
        .bounds_type = w->wanted.bounds_type,
        .policy = &w->policy};
    DO(w, ON_QUEUE, skim_cache_create(w->queue, &cache, &w->cache));
    DO(w, ON_CACHE, skim_cache_prepare(w->cache, NULL));
    if (fault_now.variant.ballast > 0 && !w->wanted.capacity) {
        skim_sequence *ballast = NULL;
        DO(w, ON_CACHE, skim_sequence_create(w->cache, &ballast));
        DO(w, ON_CACHE, skim_sequence_reserve(ballast, fault_now.variant.ballast));
    }
    return SKIM_OK;
}

skim_status world_open(world *w, const char *name, const world_options *wanted, bool fresh)
{
    w->name = name;
    w->wanted = *wanted;
    w->result_size = 0;
    w->next_token = 1;
    w->attempts = 0;
    w->nested = 0;
    w->failures = 0;
    w->file_size = w->file_at = 0;
    memset(w->sequences, 0, sizeof w->sequences);
    if (!w->results)
        w->results = malloc(WORLD_RESULTS);
    if (fresh)
        fault_arm(false);
    const skim_runtime_options options = {.size_of = sizeof options,
                                          .allocator = fault_allocator(),
                                          .log = fault_log(),
                                          .store = fault_store()};
    if (!w->runtime)
        DO(w, ON_NONE, skim_runtime_create_with(&options, fault_registration(), 1, &w->runtime));
    if (fresh)
        fault_arm(true);
    PASS(open_device(w));
    if (wanted->prefill > 0) {
        PASS(world_create_sequence(w, 0));
        for (uint32_t done = 0; done < wanted->prefill;) {
            uint32_t most = w->cache->max_step_tokens;
            uint32_t part = wanted->prefill - done < most ? wanted->prefill - done : most;
            PASS(world_run_step(w, &(world_step){.entries = {{0, part}}, .quiet = true}));
            done += part;
        }
    }
    fault_arm(true);
    return SKIM_OK;
}

// What a lost device says to every call that needs it.
static void check_lost(world *w)
{
    skim_buffer *buffer = NULL;
    skim_queue *queue = NULL;
    w->call = "after the device was lost";
    if (skim_buffer_create(w->device, 64, &buffer) != SKIM_DEVICE_LOST)
        world_problem(w, "skim_buffer_create did not say so");
    if (skim_queue_create(w->device, &queue) != SKIM_DEVICE_LOST)
        world_problem(w, "skim_queue_create did not say so");
    if (w->queue && (skim_queue_finish(w->queue) != SKIM_DEVICE_LOST ||
                     skim_queue_submit(w->queue, NULL) != SKIM_DEVICE_LOST ||
                     skim_queue_wait(w->queue, 0, 0) != SKIM_DEVICE_LOST))
        world_problem(w, "the queue did not say so");
    if (!w->cache)
        return;
    capture(w, &w->before);
    skim_step_entry entry = {w->sequences[0].handle, 1};
    skim_step *step = &w->cache->step;
    const skim_tensor none = skim_tensor_host(&entry, SKIM_F32);
    if (step->open && !step->failed) {
        if (!w->cache->layers[0].appended && w->before.step_tokens == 1 &&
            skim_step_append(step, 0, &none, &none) != SKIM_DEVICE_LOST)
            world_problem(w, "skim_step_append did not say so");
    } else if (entry.sequence && !step->open && !entry.sequence->broken &&
               w->cache->pool.free_count > 1) {
        if (skim_step_begin(w->cache, &entry, 1, &step) != SKIM_DEVICE_LOST)
            world_problem(w, "skim_step_begin did not say so");
    }
    check_unchanged(w, false);
}

void world_close_device(world *w)
{
    if (w->device && atomic_load(&w->device->lost))
        check_lost(w);
    w->call = "destroying everything";
    skim_snapshot_end(w->snapshot);
    skim_cache_destroy(w->other_cache);
    skim_cache_destroy(w->cache);
    skim_queue_destroy(w->queue);
    for (size_t i = 0; i < sizeof w->buffers / sizeof *w->buffers; i++)
        skim_buffer_destroy(w->buffers[i]);
    if (w->device && atomic_load(&w->device->objects) != 0)
        world_problem(w, "%u of the device's objects are left", atomic_load(&w->device->objects));
    skim_device_close(w->device);
    w->snapshot = NULL;
    w->cache = w->other_cache = NULL;
    w->queue = NULL;
    w->device = NULL;
    memset(w->buffers, 0, sizeof w->buffers);
    fault_check_closed();
    if (fault_now.violation[0])
        world_problem(w, "%s", fault_now.violation);
}

void world_close(world *w)
{
    world_close_device(w);
    skim_runtime_destroy(w->runtime);
    w->runtime = NULL;
    if (fault_now.blocks || fault_now.bytes)
        world_problem(w, "%llu blocks of %llu bytes are left", (unsigned long long)fault_now.blocks,
                      (unsigned long long)fault_now.bytes);
    fault_now.blocks = fault_now.bytes = 0;
}
