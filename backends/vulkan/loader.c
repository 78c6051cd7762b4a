#include "backends/vulkan/loader.h"

#include "skim/base.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#if defined(__APPLE__)
static const char *const names[] = {"libvulkan.1.dylib", "libMoltenVK.dylib"};
#else
static const char *const names[] = {"libvulkan.so.1"};
#endif

// A function of the loader under the type that it has.
#define LOAD(instance, type, name) ((type)(instance)->get((instance)->handle, name))

static bool fail(char *reason, size_t size, const char *text)
{
    snprintf(reason, size, "%s", text);
    return false;
}

bool skim_vulkan_library_open(skim_vulkan_instance *instance, char *reason, size_t size)
{
    for (size_t i = 0; i < sizeof names / sizeof *names && !instance->library; i++)
        instance->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!instance->library) {
        snprintf(reason, size, "the Vulkan loader (%s) was not found", names[0]);
        return false;
    }
    // A pointer from dlsym may be a function on POSIX, which C itself does not promise.
    void *symbol = dlsym(instance->library, "vkGetInstanceProcAddr");
    memcpy(&instance->get, &symbol, sizeof symbol);
    return symbol ? true : fail(reason, size, "the Vulkan loader has no vkGetInstanceProcAddr");
}

// Portability drivers (MoltenVK) are shown only to those who ask for them.
static bool has_portability(const skim_vulkan_instance *instance)
{
    PFN_vkEnumerateInstanceExtensionProperties enumerate =
        LOAD(instance, PFN_vkEnumerateInstanceExtensionProperties,
             "vkEnumerateInstanceExtensionProperties");
    VkExtensionProperties properties[128];
    uint32_t count = sizeof properties / sizeof *properties;
    if (!enumerate || enumerate(NULL, &count, properties) < VK_SUCCESS)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(properties[i].extensionName, "VK_KHR_portability_enumeration") == 0)
            return true;
    return false;
}

static bool create_instance(skim_vulkan_instance *instance, char *reason, size_t size)
{
    PFN_vkEnumerateInstanceVersion version_of =
        LOAD(instance, PFN_vkEnumerateInstanceVersion, "vkEnumerateInstanceVersion");
    PFN_vkCreateInstance create = LOAD(instance, PFN_vkCreateInstance, "vkCreateInstance");
    uint32_t version = VK_API_VERSION_1_0;
    if (!create || !version_of || version_of(&version) != VK_SUCCESS ||
        version < VK_API_VERSION_1_2) {
        snprintf(reason, size, "the Vulkan loader is of version %u.%u; 1.2 is needed",
                 VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
        return false;
    }
    const VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pEngineName = "skim",
        .engineVersion = VK_MAKE_API_VERSION(0, SKIM_VERSION_MAJOR, SKIM_VERSION_MINOR, 0),
        .apiVersion = VK_API_VERSION_1_2,
    };
    const char *const portability = "VK_KHR_portability_enumeration";
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    if (has_portability(instance)) {
        info.flags = 1; // VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR
        info.enabledExtensionCount = 1;
        info.ppEnabledExtensionNames = &portability;
    }
    VkResult result = create(&info, NULL, &instance->handle);
    if (result != VK_SUCCESS)
        instance->handle = VK_NULL_HANDLE; // a call that failed may have written anything
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return fail(reason, size, "no Vulkan driver is installed");
    if (result != VK_SUCCESS) {
        snprintf(reason, size, "vkCreateInstance failed with %d", (int)result);
        return false;
    }
    return true;
}

bool skim_vulkan_instance_fill(skim_vulkan_instance *instance, char *reason, size_t size)
{
#define FILL(name)                                                                                 \
    instance->name = LOAD(instance, PFN_vk##name, "vk" #name);                                     \
    if (!instance->name)                                                                           \
        return fail(reason, size, "the Vulkan loader has no vk" #name);
    SKIM_VULKAN_INSTANCE_FUNCTIONS(FILL)
#undef FILL
    return true;
}

bool skim_vulkan_instance_open(skim_vulkan_instance *instance, char *reason, size_t size)
{
    memset(instance, 0, sizeof *instance);
    bool opened = skim_vulkan_library_open(instance, reason, size) &&
                  create_instance(instance, reason, size) &&
                  skim_vulkan_instance_fill(instance, reason, size);
    if (!opened)
        skim_vulkan_instance_close(instance);
    return opened;
}

void skim_vulkan_instance_close(skim_vulkan_instance *instance)
{
    PFN_vkDestroyInstance destroy = instance->DestroyInstance;
    if (instance->handle && !destroy)
        destroy = LOAD(instance, PFN_vkDestroyInstance, "vkDestroyInstance");
    if (instance->handle && destroy)
        destroy(instance->handle, NULL);
    if (instance->library)
        dlclose(instance->library);
    memset(instance, 0, sizeof *instance);
}

bool skim_vulkan_functions_fill(skim_vulkan_functions *functions,
                                const skim_vulkan_instance *instance, VkDevice device,
                                const char **missing)
{
#define FILL(name)                                                                                 \
    functions->name = (PFN_vk##name)instance->GetDeviceProcAddr(device, "vk" #name);               \
    if (!functions->name) {                                                                        \
        *missing = "vk" #name;                                                                     \
        return false;                                                                              \
    }
    SKIM_VULKAN_DEVICE_FUNCTIONS(FILL)
#undef FILL
    return true;
}
