// What step.c and step_attend.c share.
#ifndef SKIM_STEP_PRIVATE_H
#define SKIM_STEP_PRIVATE_H

#include "runtime/rows.h"

// The layer, if the step is open and can go on.
skim_status skim_step_layer(skim_step *step, uint32_t layer, skim_cache_layer **own);

#endif
