// What tier 1 needs of the verbs beyond the public calls.
#ifndef SKIM_VERBS_PRIVATE_H
#define SKIM_VERBS_PRIVATE_H

#include "skim/verbs.h"

// AUTO resolved for a shape.
skim_select_mode skim_select_resolve(skim_select_mode select, const skim_shape *shape);

// Records estimate, select and attend: as one where the backend has a fused decode. All tensors are
// in buffers, or results in host memory that the device writes itself.
skim_status skim_decode(skim_queue *queue, const skim_estimate_args *estimate,
                        const skim_select_args *select, const skim_attend_args *attend);

#endif
