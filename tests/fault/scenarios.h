// What the harness plays, with every fault in turn.
#ifndef FAULT_SCENARIOS_H
#define FAULT_SCENARIOS_H

#include "tests/fault/world.h"

typedef struct scenario {
    const char *name;
    skim_status (*run)(world *w);
    world_options options;
    bool fresh; // every fault from the first call on; else only allocations and losses
} scenario;

skim_status fault_snapshot_save(world *w);
skim_status fault_snapshot_load(world *w);
skim_status fault_snapshot_in_pieces(world *w);

extern const scenario fault_scenarios[];
extern const uint32_t fault_scenario_count;

#endif
