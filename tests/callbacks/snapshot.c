// The callbacks of snapshots: write, read and progress fail, stop, are slow and call back; what was
// there before stays, and repeating the call works.
#include "watch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 300, OTHER_TOKENS = 40, BLOB = 1000 };

// A file in memory.
typedef struct file {
    char *data;
    size_t size, capacity, at;
    int fail_at; // the call, counted from 0
    int calls;
    unsigned delay_us;
    void (*call_back)(void *user);
    void *call_back_user;
} file;

static void file_rewind(file *f, int fail_at)
{
    f->at = 0;
    f->calls = 0;
    f->fail_at = fail_at;
}

static void before_each(const file *f)
{
    if (f->delay_us)
        usleep(f->delay_us);
    if (f->call_back)
        f->call_back(f->call_back_user);
}

static int write_file(void *user, const void *data, size_t size)
{
    file *f = (file *)user;
    before_each(f);
    CHECK(size > 0);
    if (f->calls++ == f->fail_at)
        return -3;
    if (f->at + size > f->capacity) {
        f->capacity = 2 * (f->at + size);
        f->data = (char *)realloc(f->data, f->capacity);
        CHECK(f->data != NULL);
    }
    memcpy(f->data + f->at, data, size);
    f->at += size;
    f->size = f->at;
    return 0;
}

static int read_file(void *user, void *data, size_t size)
{
    file *f = (file *)user;
    before_each(f);
    CHECK(size > 0);
    if (f->calls++ == f->fail_at || size > f->size - f->at)
        return 1;
    memcpy(data, f->data + f->at, size);
    f->at += size;
    return 0;
}

// A sequence to save, and another, in a cache of its own, to load into.
typedef struct pair {
    rig from, to;
    rig_data data, other;    // what they hold
    rig_data next, reloaded; // results of a step more
    char blob[BLOB];
    file saved;
} pair;

static const uint32_t many[RIG_SEQUENCES] = {TOKENS, 0, 0, 0};
static const uint32_t few[RIG_SEQUENCES] = {OTHER_TOKENS, 0, 0, 0};
static const uint32_t one[RIG_SEQUENCES] = {1, 0, 0, 0};

static void pair_open(pair *p)
{
    rig_shape shape = rig_shape_small();
    shape.tokens = 1024;
    memset(p, 0, sizeof *p);
    rig_data_init(&p->data, &shape, TOKENS, 8);
    rig_data_init(&p->other, &shape, OTHER_TOKENS, 9);
    rig_data_init(&p->next, &shape, 1, 10);
    rig_data_init(&p->reloaded, &shape, 1, 10);
    for (int i = 0; i < BLOB; i++)
        p->blob[i] = (char)(i * 3);
    CHECK_OK(rig_open(&p->from, NULL, false));
    CHECK_OK(rig_add_cache(&p->from, shape));
    CHECK_OK(rig_add_sequences(&p->from, 1));
    CHECK_OK(rig_forward(&p->from, many, &p->data, NULL));
    CHECK_OK(rig_open(&p->to, NULL, false));
    CHECK_OK(rig_add_cache(&p->to, shape));
    CHECK_OK(rig_add_sequences(&p->to, 1));
    CHECK_OK(rig_forward(&p->to, few, &p->other, NULL));
    p->saved.fail_at = NEVER;
}

static void pair_close(pair *p)
{
    rig_close(&p->from);
    rig_close(&p->to);
    rig_data_deinit(&p->data);
    rig_data_deinit(&p->other);
    rig_data_deinit(&p->next);
    rig_data_deinit(&p->reloaded);
    free(p->saved.data);
}

static skim_status save(pair *p, file *f, const skim_progress *progress)
{
    skim_snapshot_save_args args;
    memset(&args, 0, sizeof args);
    args.size_of = sizeof args;
    args.write = write_file;
    args.user = f;
    args.fingerprint[5] = 42;
    args.blob = p->blob;
    args.blob_size = BLOB;
    args.progress = progress;
    return skim_snapshot_save(p->from.sequences[0], &args);
}

static skim_status load(pair *p, file *f, const skim_progress *progress)
{
    char blob[BLOB];
    uint64_t size = 0;
    skim_snapshot_load_args args;
    memset(&args, 0, sizeof args);
    args.size_of = sizeof args;
    args.read = read_file;
    args.user = f;
    args.fingerprint[5] = 42;
    args.blob = blob;
    args.blob_capacity = BLOB;
    args.blob_size = &size;
    args.progress = progress;
    skim_status status = skim_snapshot_load(p->to.sequences[0], &args);
    CHECK(status != SKIM_OK || (size == BLOB && memcmp(blob, p->blob, BLOB) == 0));
    return status;
}

// Both decode the same token and give the same bits.
static void check_same_sequence(pair *p)
{
    CHECK_EQUAL(skim_sequence_length(p->to.sequences[0]), TOKENS);
    CHECK_OK(rig_forward(&p->from, one, &p->next, NULL));
    CHECK_OK(rig_forward(&p->to, one, &p->reloaded, NULL));
    CHECK(rig_same_results(&p->next, &p->reloaded));
    CHECK_OK(skim_sequence_truncate(p->from.sequences[0], TOKENS));
}

static uint32_t slots_free(const rig *r)
{
    skim_cache_usage usage;
    usage.size_of = sizeof usage;
    CHECK_OK(skim_cache_get_usage(r->cache, &usage));
    return usage.slots_free;
}

// --- save

static void a_save_can_be_stopped_or_fail_at_any_call_and_be_repeated(void)
{
    pair p;
    watcher w;
    file again;
    pair_open(&p);
    watch(&w, NEVER);
    CHECK_OK(save(&p, &p.saved, &w.progress));
    CHECK_EQUAL(w.done, p.saved.size);
    CHECK_EQUAL(w.total, p.saved.size);
    int reports = w.reports, writes = p.saved.calls;
    CHECK(reports > 1 && writes > 1);
    memset(&again, 0, sizeof again);
    for (int at = 0; at < reports + writes; at++) {
        bool stop = at < reports;
        watch(&w, stop ? at : NEVER);
        file_rewind(&again, stop ? NEVER : at - reports);
        CHECK_EQUAL(save(&p, &again, &w.progress), stop ? SKIM_CANCELLED : SKIM_FAILED);
        CHECK(skim_cache_error(p.from.cache, NULL, 0) > 0);
        CHECK_EQUAL(again.calls <= writes, 1);
        CHECK(stop ? w.reports == at + 1 : again.calls == at - reports + 1);
    }
    watch(&w, NEVER);
    file_rewind(&again, NEVER);
    CHECK_OK(save(&p, &again, NULL));
    CHECK_EQUAL(again.size, p.saved.size);
    CHECK(memcmp(again.data, p.saved.data, again.size) == 0);
    free(again.data);
    pair_close(&p);
}

// --- load

static void a_load_can_be_stopped_or_fail_at_any_call_and_be_repeated(void)
{
    pair p;
    watcher w;
    pair_open(&p);
    CHECK_OK(save(&p, &p.saved, NULL));
    const uint32_t before = slots_free(&p.to);
    int reports = 1, reads = 0;
    for (int at = 0; at < reports + reads; at++) {
        bool stop = at < reports;
        watch(&w, stop ? at : NEVER);
        file_rewind(&p.saved, stop ? NEVER : at - reports);
        skim_status status = load(&p, &p.saved, &w.progress);
        if (stop && status == SKIM_OK) { // past its last report
            CHECK_EQUAL(w.reports, at);
            CHECK_EQUAL(w.done, w.total);
            reads = p.saved.calls;
            reports = at;
            check_same_sequence(&p);
            CHECK_OK(skim_sequence_truncate(p.to.sequences[0], 0));
            CHECK_OK(rig_forward(&p.to, few, &p.other, NULL));
            at--;
            continue;
        }
        if (stop)
            reports++;
        CHECK_EQUAL(status, stop ? SKIM_CANCELLED : SKIM_FAILED);
        CHECK(skim_cache_error(p.to.cache, NULL, 0) > 0);
        CHECK_EQUAL(skim_sequence_length(p.to.sequences[0]), OTHER_TOKENS);
        CHECK_EQUAL(slots_free(&p.to), before);
    }
    CHECK(reports > 1 && reads > 1);
    // What it held before is still there.
    rig_data twin;
    rig_shape shape = rig_shape_small();
    rig_data_init(&twin, &shape, 1, 10);
    CHECK_OK(rig_forward(&p.to, one, &twin, NULL));
    CHECK_OK(skim_sequence_truncate(p.to.sequences[0], 0));
    CHECK_OK(rig_forward(&p.to, few, &p.other, NULL));
    CHECK_OK(rig_forward(&p.to, one, &p.reloaded, NULL));
    CHECK(rig_same_results(&twin, &p.reloaded));
    rig_data_deinit(&twin);
    file_rewind(&p.saved, NEVER);
    CHECK_OK(load(&p, &p.saved, NULL));
    check_same_sequence(&p);
    pair_close(&p);
}

// --- what they may do

static void slow_callbacks_may_run_steps_on_another_queue(void)
{
    pair p;
    watcher w;
    neighbour by_from, by_to;
    pair_open(&p);
    neighbour_open(&by_from, &p.from);
    neighbour_open(&by_to, &p.to);
    watch(&w, NEVER);
    w.call_back = neighbour_step;
    w.call_back_user = &by_from;
    p.saved.call_back = neighbour_step;
    p.saved.call_back_user = &by_from;
    p.saved.delay_us = 300;
    CHECK_OK(save(&p, &p.saved, &w.progress));
    CHECK_EQUAL(by_from.steps, w.reports + p.saved.calls);
    file_rewind(&p.saved, NEVER);
    watch(&w, NEVER);
    w.call_back = neighbour_step;
    w.call_back_user = &by_to;
    p.saved.call_back_user = &by_to;
    CHECK_OK(load(&p, &p.saved, &w.progress));
    CHECK_EQUAL(by_to.steps, w.reports + p.saved.calls);
    check_same_sequence(&p);
    neighbour_close(&by_from);
    neighbour_close(&by_to);
    pair_close(&p);
}

// In pieces, with steps of the saved sequence between them.
static void a_piecewise_save_reports_as_it_goes_and_can_be_stopped(void)
{
    pair p;
    watcher w;
    pair_open(&p);
    CHECK_OK(save(&p, &p.saved, NULL));
    file again;
    memset(&again, 0, sizeof again);
    for (int stop_at = 1; stop_at >= NEVER; stop_at--) {
        watch(&w, stop_at);
        file_rewind(&again, NEVER);
        skim_snapshot_save_args args;
        memset(&args, 0, sizeof args);
        args.size_of = sizeof args;
        args.write = write_file;
        args.user = &again;
        args.fingerprint[5] = 42;
        args.blob = p.blob;
        args.blob_size = BLOB;
        args.progress = &w.progress;
        skim_snapshot *snapshot = NULL;
        CHECK_OK(skim_snapshot_begin(p.from.sequences[0], &args, &snapshot));
        uint64_t left = 1;
        skim_status status = SKIM_OK;
        while (left > 0 && status == SKIM_OK) {
            CHECK_OK(rig_forward(&p.from, one, &p.next, NULL));
            status = skim_snapshot_run(snapshot, 1, &left);
        }
        CHECK_EQUAL(status, stop_at == NEVER ? SKIM_OK : SKIM_CANCELLED);
        if (stop_at != NEVER)
            CHECK_EQUAL(skim_snapshot_run(snapshot, 1, &left), SKIM_CANCELLED);
        skim_snapshot_end(snapshot);
        CHECK_OK(skim_sequence_truncate(p.from.sequences[0], TOKENS));
    }
    CHECK_EQUAL(w.done, w.total);
    CHECK_EQUAL(again.size, p.saved.size);
    CHECK(memcmp(again.data, p.saved.data, again.size) == 0);
    free(again.data);
    pair_close(&p);
}

const check_case snapshot_cases[] = {
    {"a save can be stopped or fail at any call and be repeated",
     a_save_can_be_stopped_or_fail_at_any_call_and_be_repeated},
    {"a load can be stopped or fail at any call and be repeated",
     a_load_can_be_stopped_or_fail_at_any_call_and_be_repeated},
    {"slow callbacks of a snapshot may run steps on another queue",
     slow_callbacks_may_run_steps_on_another_queue},
    {"a piecewise save reports as it goes and can be stopped",
     a_piecewise_save_reports_as_it_goes_and_can_be_stopped},
    {NULL, NULL},
};
