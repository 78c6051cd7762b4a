// The part of skim bench that saves and loads.
#ifndef SKIM_TOOL_BENCH_SNAPSHOT_H
#define SKIM_TOOL_BENCH_SNAPSHOT_H

#include "bench.h"

// Measures saving and loading a sequence of settings->snapshot MiB, and a plain copy with the same
// checksum; adds its keys to the result. Returns an exit status.
int bench_snapshot(const struct settings *settings, struct session *session, json_t *result);

#endif
