#include "watch.h"

#include <string.h>
#include <unistd.h>

static int report(void *user, uint64_t done, uint64_t total)
{
    watcher *w = (watcher *)user;
    CHECK(w->reports == 0 || done > w->done);
    CHECK(w->total == 0 || total == w->total);
    CHECK(done > 0 && done <= total);
    w->done = done;
    w->total = total;
    if (w->delay_us)
        usleep(w->delay_us);
    if (w->call_back)
        w->call_back(w->call_back_user);
    return w->reports++ == w->stop_at ? 17 : 0;
}

void watch(watcher *w, int stop_at)
{
    memset(w, 0, sizeof *w);
    w->progress.report = report;
    w->progress.user = w;
    w->stop_at = stop_at;
}

// --- a neighbour

void neighbour_step(void *user)
{
    const uint32_t tokens[RIG_SEQUENCES] = {30, 0, 0, 0};
    neighbour *n = (neighbour *)user;
    CHECK_OK(skim_sequence_truncate(n->r.sequences[0], 0));
    CHECK_OK(rig_forward(&n->r, tokens, &n->data, NULL));
    CHECK(rig_same_results(&n->data, &n->first));
    n->steps++;
}

void neighbour_open(neighbour *n, const rig *r)
{
    const uint32_t tokens[RIG_SEQUENCES] = {30, 0, 0, 0};
    rig_shape shape = rig_shape_small();
    memset(n, 0, sizeof *n);
    rig_data_init(&n->data, &shape, 30, 7);
    rig_data_init(&n->first, &shape, 30, 7);
    CHECK_OK(skim_queue_create(r->device, &n->r.queue));
    CHECK_OK(rig_add_cache(&n->r, shape));
    CHECK_OK(rig_add_sequences(&n->r, 1));
    CHECK_OK(rig_forward(&n->r, tokens, &n->first, NULL));
}

void neighbour_close(neighbour *n)
{
    skim_cache_destroy(n->r.cache);
    skim_queue_destroy(n->r.queue);
    rig_data_deinit(&n->data);
    rig_data_deinit(&n->first);
}
