// The fault plans of driver.h on the Vulkan backend over the fake driver.
#ifndef FAULT_VULKAN_DRIVING_H
#define FAULT_VULKAN_DRIVING_H

#include "tests/fault/driver.h"
#include "tests/fault/vulkan/fake.h"

// The fake driver's controls; NULL, and a sentence on stderr, if dlopen finds another loader.
fake_control *driving_find(void);

// A plan for one result of one entry point.
fault_plan driving_plan(fake_call call, VkResult result, bool persistent);

// Values that the store was given, since the process began.
uint32_t driving_saves(void);

#endif
