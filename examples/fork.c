// Forks a prompt into several continuations: they share its pages, and each decodes on its own.
//
// The "model" is made up so that the answers are known. The value of a token is a number, and two
// query heads look for two keys: one for a token of the prompt, the other for the newest token of
// the sequence's own.
#include <skim/skim.h>

#include <stdio.h>
#include <string.h>

enum { DIM = 64, PROMPT = 1000, NEEDLE = 123, BRANCHES = 4, NEW = 40 };

static float keys[PROMPT * DIM], values[PROMPT * DIM];
static float queries[BRANCHES][2][DIM], out[BRANCHES][2][DIM];
static skim_runtime *runtime;
static skim_device *device;
static skim_queue *queue;
static skim_cache *cache;
static skim_sequence *branches[BRANCHES];

// The key of a token points along one channel: 0 the needle's, 1 the newest token's, 2 all others'.
static void make_up_token(int index, int channel, float value)
{
    memset(keys + index * DIM, 0, DIM * sizeof *keys);
    keys[index * DIM + channel] = 10.0f;
    for (int i = 0; i < DIM; i++)
        values[index * DIM + i] = value;
}

static float value_of(int branch, int token)
{
    return (float)(10000 * (branch + 1) + token);
}

static skim_status start(void)
{
    skim_layer layer = {
        .size_of = sizeof layer, .q_heads = 2, .kv_heads = 1, .key_dim = DIM, .type = SKIM_F32};
    skim_policy policy = skim_policy_defaults();
    policy.budget = 128;
    policy.dense_layers = 0;
    policy.select = SKIM_SELECT_HEAD; // the two heads look for different tokens
    skim_cache_options options = {.size_of = sizeof options,
                                  .layers = &layer,
                                  .layer_count = 1,
                                  .capacity = 2048,
                                  .max_sequences = BRANCHES,
                                  .max_step_tokens = PROMPT,
                                  .policy = &policy};
    skim_status status;
    if ((status = skim_runtime_create(NULL, &runtime)) == SKIM_OK &&
        (status = skim_device_open(runtime, "auto", NULL, &device)) == SKIM_OK &&
        (status = skim_queue_create(device, &queue)) == SKIM_OK &&
        (status = skim_cache_create(queue, &options, &cache)) == SKIM_OK)
        status = skim_sequence_create(cache, &branches[0]);
    return status;
}

static skim_status print_usage(const char *when)
{
    skim_cache_usage usage = {.size_of = sizeof usage};
    skim_status status = skim_cache_get_usage(cache, &usage);
    if (status == SKIM_OK)
        printf("%-28s sequences %u, slots in use %u, of them shared %2u\n", when, usage.sequences,
               usage.slots - usage.slots_free, usage.slots_shared);
    return status;
}

// One step with the same number of new tokens for the first `count` branches.
static skim_status forward(uint32_t count, uint32_t tokens, int attend)
{
    skim_step *step = NULL;
    skim_step_entry entries[BRANCHES];
    for (uint32_t i = 0; i < count; i++) {
        entries[i].sequence = branches[i];
        entries[i].tokens = tokens;
    }
    skim_tensor k = skim_tensor_host(keys, SKIM_F32), v = skim_tensor_host(values, SKIM_F32);
    skim_step_attend_args args = {.size_of = sizeof args,
                                  .q = skim_tensor_host(queries, SKIM_F32),
                                  .out = skim_tensor_host(out, SKIM_F32)};
    skim_status status = skim_step_begin(cache, entries, count, &step);
    if (status != SKIM_OK)
        return status;
    status = skim_step_append(step, 0, &k, &v);
    if (status == SKIM_OK && attend)
        status = skim_step_attend(step, 0, &args);
    if (status == SKIM_OK)
        status = skim_step_end(step, NULL);
    if (status != SKIM_OK)
        skim_step_cancel(step); // every branch is as it was before begin
    return status;
}

static skim_status read_prompt(void)
{
    for (int token = 0; token < PROMPT; token++)
        make_up_token(token, token == NEEDLE ? 0 : 2, (float)token);
    return forward(1, PROMPT, 0);
}

// Token by token, all branches in one batch.
static skim_status decode(void)
{
    skim_status status = SKIM_OK;
    for (int branch = 0; branch < BRANCHES; branch++) {
        queries[branch][0][0] = 30.0f;
        queries[branch][1][1] = 30.0f;
    }
    for (int token = 0; token < NEW && status == SKIM_OK; token++) {
        for (int branch = 0; branch < BRANCHES; branch++)
            make_up_token(branch, token == NEW - 1 ? 1 : 2, value_of(branch, token));
        status = forward(BRANCHES, 1, 1);
    }
    return status == SKIM_OK ? skim_queue_finish(queue) : status; // out is there
}

// Both heads of every branch found what they looked for.
static int check(void)
{
    int right = 1;
    for (int branch = 0; branch < BRANCHES; branch++) {
        printf("branch %d: the prompt's token %.1f, its own %.1f\n", branch, out[branch][0][0],
               out[branch][1][0]);
        right = right && out[branch][0][0] == (float)NEEDLE &&
                out[branch][1][0] == value_of(branch, NEW - 1);
    }
    return right;
}

static skim_status run(void)
{
    skim_status status = start();
    if (status == SKIM_OK)
        status = read_prompt();
    if (status == SKIM_OK)
        status = print_usage("after the prompt:");
    for (int i = 1; i < BRANCHES && status == SKIM_OK; i++)
        status = skim_sequence_fork(branches[0], &branches[i]);
    if (status == SKIM_OK)
        status = print_usage("after forking:");
    if (status == SKIM_OK)
        status = decode();
    if (status == SKIM_OK)
        status = print_usage("after decoding:");
    return status;
}

// Branch 0 is kept and taken back to the prompt; its forks end.
static skim_status go_back(void)
{
    skim_status status = skim_sequence_truncate(branches[0], PROMPT);
    for (int i = 1; i < BRANCHES && status == SKIM_OK; i++)
        status = skim_sequence_destroy(branches[i]);
    return status == SKIM_OK ? print_usage("back at the prompt:") : status;
}

static void print_error(skim_status status)
{
    char text[256] = ""; // the sentence is on the object that the call was made on
    if (!skim_cache_error(cache, text, sizeof text) &&
        !skim_queue_error(queue, text, sizeof text) &&
        !skim_device_error(device, text, sizeof text))
        skim_runtime_error(runtime, text, sizeof text);
    fprintf(stderr, "fork: %s: %s\n", skim_status_name(status), text);
}

int main(void)
{
    skim_status status = run();
    int right = status == SKIM_OK && check();
    if (status == SKIM_OK)
        status = go_back();
    if (status != SKIM_OK)
        print_error(status);
    skim_cache_destroy(cache);
    skim_queue_destroy(queue);
    skim_device_close(device);
    skim_runtime_destroy(runtime);
    return status == SKIM_OK && right ? 0 : 1;
}
