// What this processor and its operating system offer.
#ifndef SKIM_CPU_FEATURES_H
#define SKIM_CPU_FEATURES_H

#include <stddef.h>
#include <stdint.h>

// SKIM_FEATURE_* bits that both the processor and the operating system support.
uint64_t skim_cpu_features(void);

// The maker's name for the processor.
void skim_cpu_name(char *name, size_t size);

// Processors that this process may run on, >= 1.
uint32_t skim_cpu_processors(void);

#endif
