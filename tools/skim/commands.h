// The commands.
#ifndef SKIM_TOOL_COMMANDS_H
#define SKIM_TOOL_COMMANDS_H

#include "options.h"

int devices_run(const struct settings *settings);
int replay_run(const struct settings *settings);
int bench_run(const struct settings *settings);
int conform_run(const struct settings *settings);
int generate_run(const struct settings *settings);
int evaluate_run(const struct settings *settings);

#endif
