// skim bench --model: whole decode steps of a model.
#ifndef SKIM_TOOL_BENCH_MODEL_H
#define SKIM_TOOL_BENCH_MODEL_H

#include "options.h"

// Opens the model of --model, fills a cache of each --context with synthetic keys, times decode
// steps over it and prints the result. Returns an exit status; what failed was reported.
int bench_model(const struct settings *settings, double load);

#endif
