// The fault plans of failing.h on the Vulkan backend over the fake driver: host allocations fail as
// anywhere (FAULT_ALLOCATION), entry points of the driver fail (FAULT_DRIVER), lose the device
// (FAULT_LOSS), or spoil recorded work, which a later wait tells (FAULT_WORK).
#ifndef FAULT_VULKAN_DRIVING_H
#define FAULT_VULKAN_DRIVING_H

#include "tests/fault/failing.h"
#include "tests/fault/vulkan/fake.h"

// The fake driver's controls; NULL, and a sentence on stderr, if dlopen finds another loader.
fake_control *driving_find(void);

// A plan for one result of one entry point.
fault_plan driving_plan(fake_call call, VkResult result, bool persistent);

// Messages that said that memory was released without being zeroed.
uint32_t driving_unzeroed(void);
// Values that the store was given, since the process began.
uint32_t driving_saves(void);

#endif
