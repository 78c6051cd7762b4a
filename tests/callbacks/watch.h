// Progress callbacks that look at what they are told, stop where they are asked to, and call back.
#ifndef CALLBACKS_WATCH_H
#define CALLBACKS_WATCH_H

#include "rig.h"

enum { NEVER = -1 };

typedef struct watcher {
    skim_progress progress;
    int stop_at; // the report, counted from 0, that asks to stop
    int reports; // so far
    uint64_t done;
    uint64_t total;
    unsigned delay_us;
    void (*call_back)(void *user);
    void *call_back_user;
} watcher;

void watch(watcher *w, int stop_at);

// A cache on another queue of the same device, whose steps give the same results each time.
typedef struct neighbour {
    rig r;
    rig_data data, first;
    uint32_t steps;
} neighbour;

void neighbour_open(neighbour *n, const rig *r);
void neighbour_step(void *neighbour); // checks itself
void neighbour_close(neighbour *n);

#endif
