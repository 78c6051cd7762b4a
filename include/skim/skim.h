// Everything of Skim's but the interop headers (skim/cpu.h, skim/cuda.h, skim/opencl.h,
// skim/vulkan.h).
#ifndef SKIM_SKIM_H
#define SKIM_SKIM_H

#include "skim/base.h"
#include "skim/cache.h"
#include "skim/device.h"
#include "skim/policy.h"
#include "skim/queue.h"
#include "skim/row.h"
#include "skim/runtime.h"
#include "skim/sequence.h"
#include "skim/snapshot.h"
#include "skim/step.h"
#include "skim/tensor.h"
#include "skim/verbs.h"

#endif
