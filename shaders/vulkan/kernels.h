// Every kernel and variant as SPIR-V words. The .inc files come from glslc, at build time or, where
// there is none, from the copies in spirv/.
#ifndef SKIM_VULKAN_KERNELS_H
#define SKIM_VULKAN_KERNELS_H

#include <stdint.h>

#define SKIM_SPIRV_TEXT(name) #name
#ifdef SKIM_MUTANTS
#define SKIM_SPIRV_FILE(name) SKIM_SPIRV_TEXT(name##_mutants.inc)
#else
#define SKIM_SPIRV_FILE(name) SKIM_SPIRV_TEXT(name.inc)
#endif
#define SKIM_SPIRV(name) SKIM_SPIRV_FILE(name)

static const uint32_t skim_spirv_append[] = {
#include SKIM_SPIRV(append)
};
static const uint32_t skim_spirv_centre[] = {
#include SKIM_SPIRV(centre)
};
static const uint32_t skim_spirv_estimate[] = {
#include SKIM_SPIRV(estimate)
};
static const uint32_t skim_spirv_estimate_fp16[] = {
#include SKIM_SPIRV(estimate_fp16)
};
static const uint32_t skim_spirv_estimate_subgroups[] = {
#include SKIM_SPIRV(estimate_subgroups)
};
static const uint32_t skim_spirv_estimate_subgroups_fp16[] = {
#include SKIM_SPIRV(estimate_subgroups_fp16)
};
static const uint32_t skim_spirv_select[] = {
#include SKIM_SPIRV(select)
};
static const uint32_t skim_spirv_attend[] = {
#include SKIM_SPIRV(attend)
};
static const uint32_t skim_spirv_attend_fp16[] = {
#include SKIM_SPIRV(attend_fp16)
};
static const uint32_t skim_spirv_attend_subgroups[] = {
#include SKIM_SPIRV(attend_subgroups)
};
static const uint32_t skim_spirv_attend_subgroups_fp16[] = {
#include SKIM_SPIRV(attend_subgroups_fp16)
};
static const uint32_t skim_spirv_merge[] = {
#include SKIM_SPIRV(merge)
};
static const uint32_t skim_spirv_prefill[] = {
#include SKIM_SPIRV(prefill)
};
static const uint32_t skim_spirv_prefill_fp16[] = {
#include SKIM_SPIRV(prefill_fp16)
};

#endif
