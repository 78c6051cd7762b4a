// The Vulkan loader, opened at run time, and tables of its functions: one per instance, one per
// device. Nothing here is global: an application that uses Vulkan itself is not disturbed.
#ifndef SKIM_VULKAN_LOADER_H
#define SKIM_VULKAN_LOADER_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <stdbool.h>
#include <stddef.h>

#define SKIM_VULKAN_INSTANCE_FUNCTIONS(X)                                                          \
    X(DestroyInstance)                                                                             \
    X(EnumeratePhysicalDevices)                                                                    \
    X(GetPhysicalDeviceProperties2)                                                                \
    X(GetPhysicalDeviceFeatures2)                                                                  \
    X(GetPhysicalDeviceMemoryProperties2)                                                          \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                      \
    X(EnumerateDeviceExtensionProperties)                                                          \
    X(CreateDevice)                                                                                \
    X(GetDeviceProcAddr)

#define SKIM_VULKAN_DEVICE_FUNCTIONS(X)                                                            \
    X(DestroyDevice)                                                                               \
    X(GetDeviceQueue)                                                                              \
    X(AllocateMemory)                                                                              \
    X(FreeMemory)                                                                                  \
    X(MapMemory)                                                                                   \
    X(CreateBuffer)                                                                                \
    X(DestroyBuffer)                                                                               \
    X(GetBufferMemoryRequirements)                                                                 \
    X(BindBufferMemory)                                                                            \
    X(GetBufferDeviceAddress)                                                                      \
    X(CreateShaderModule)                                                                          \
    X(DestroyShaderModule)                                                                         \
    X(CreatePipelineLayout)                                                                        \
    X(DestroyPipelineLayout)                                                                       \
    X(CreatePipelineCache)                                                                         \
    X(DestroyPipelineCache)                                                                        \
    X(GetPipelineCacheData)                                                                        \
    X(CreateComputePipelines)                                                                      \
    X(DestroyPipeline)                                                                             \
    X(CreateCommandPool)                                                                           \
    X(DestroyCommandPool)                                                                          \
    X(AllocateCommandBuffers)                                                                      \
    X(BeginCommandBuffer)                                                                          \
    X(EndCommandBuffer)                                                                            \
    X(ResetCommandBuffer)                                                                          \
    X(QueueSubmit)                                                                                 \
    X(QueueWaitIdle)                                                                               \
    X(CreateSemaphore)                                                                             \
    X(DestroySemaphore)                                                                            \
    X(WaitSemaphores)                                                                              \
    X(GetSemaphoreCounterValue)                                                                    \
    X(CreateQueryPool)                                                                             \
    X(DestroyQueryPool)                                                                            \
    X(GetQueryPoolResults)                                                                         \
    X(CmdBindPipeline)                                                                             \
    X(CmdPushConstants)                                                                            \
    X(CmdDispatchBase)                                                                             \
    X(CmdPipelineBarrier)                                                                          \
    X(CmdCopyBuffer)                                                                               \
    X(CmdFillBuffer)                                                                               \
    X(CmdResetQueryPool)                                                                           \
    X(CmdWriteTimestamp)

#define SKIM_VULKAN_MEMBER(name) PFN_vk##name name;

typedef struct skim_vulkan_instance {
    void *library;
    VkInstance handle;
    PFN_vkGetInstanceProcAddr get;
    SKIM_VULKAN_INSTANCE_FUNCTIONS(SKIM_VULKAN_MEMBER)
} skim_vulkan_instance;

typedef struct skim_vulkan_functions {
    SKIM_VULKAN_DEVICE_FUNCTIONS(SKIM_VULKAN_MEMBER)
} skim_vulkan_functions;

// Opens the loader and makes an instance of Vulkan 1.2; or writes why there is none to reason and
// returns false, with nothing left open.
bool skim_vulkan_instance_open(skim_vulkan_instance *instance, char *reason, size_t reason_size);
void skim_vulkan_instance_close(skim_vulkan_instance *instance);

// Opens the loader alone, for an instance that somebody else made.
bool skim_vulkan_library_open(skim_vulkan_instance *instance, char *reason, size_t reason_size);
// Fills the table of an instance.
bool skim_vulkan_instance_fill(skim_vulkan_instance *instance, char *reason, size_t reason_size);

// False if the driver lacks one of the functions, whose name is then written to missing.
bool skim_vulkan_functions_fill(skim_vulkan_functions *functions,
                                const skim_vulkan_instance *instance, VkDevice device,
                                const char **missing);

#endif
