// skim devices: every backend and device, and why one is absent.
#include "commands.h"
#include "report.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

static const char *const type_names[] = {"other", "cpu", "integrated", "discrete", "software"};

static const char *type_name(skim_device_type type)
{
    return (size_t)type < sizeof type_names / sizeof *type_names ? type_names[type] : "other";
}

// The limits that are plain numbers; sets of bits are treated apart.
static const struct {
    const char *name;
    size_t offset, size;
} numbers[] = {
#define NUMBER(field)                                                                              \
    {                                                                                              \
#field, offsetof(skim_limits, field), sizeof(((skim_limits *)0)->field)                    \
    }
    NUMBER(head_dim_min), NUMBER(head_dim_max),    NUMBER(head_dim_multiple),
    NUMBER(heads_max),    NUMBER(rows_max),        NUMBER(pages_max),
    NUMBER(slots_max),    NUMBER(buffer_size_max), NUMBER(unified_memory),
    NUMBER(threads),      NUMBER(timestamps),
#undef NUMBER
};

static uint64_t number(const skim_limits *limits, size_t i)
{
    uint32_t small;
    uint64_t large;
    const char *field = (const char *)limits + numbers[i].offset;
    if (numbers[i].size == sizeof small)
        return memcpy(&small, field, sizeof small), small;
    return memcpy(&large, field, sizeof large), large;
}

static json_t *type_list(uint32_t types)
{
    json_t *list = json_array();
    for (uint32_t type = SKIM_F32; type <= SKIM_BF16; type++)
        if (types & 1u << type)
            json_array_append_new(list, json_string(skim_type_name((skim_type)type)));
    return list;
}

static json_t *bounds_type_list(uint32_t types)
{
    json_t *list = json_array();
    for (uint32_t type = SKIM_BOUNDS_NATIVE; type <= SKIM_BOUNDS_I8; type++)
        if (types & 1u << type)
            json_array_append_new(list, json_string(options_bounds_type_name(type)));
    return list;
}

static json_t *limits_json(const skim_limits *limits)
{
    json_t *result = json_object();
    json_t *list = json_array();
    for (uint32_t bit = 0; bit < 64; bit++) {
        const char *name = skim_feature_name(limits->features & (uint64_t)1 << bit);
        if (name)
            json_array_append_new(list, json_string(name));
    }
    json_object_set_new(result, "features", list);
    json_object_set_new(result, "kv_types", type_list(limits->kv_types));
    json_object_set_new(result, "io_types", type_list(limits->io_types));
    json_object_set_new(result, "bounds_types", bounds_type_list(limits->bounds_types));
    list = json_array();
    for (uint32_t bit = 0; bit < 32; bit++)
        if (limits->page_sizes & 1u << bit)
            json_array_append_new(list, json_integer((json_int_t)1 << bit));
    json_object_set_new(result, "page_sizes", list);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(result, numbers[i].name, json_integer((json_int_t)number(limits, i)));
    return result;
}

static json_t *device_json(const skim_device_info *info)
{
    char uuid[33];
    for (size_t i = 0; i < sizeof info->uuid; i++)
        snprintf(uuid + 2 * i, 3, "%02x", info->uuid[i]);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "selector", info->selector,
                     "backend", info->backend, "name", info->name, "driver", info->driver, "type",
                     type_name(info->type), "uuid", uuid, "memory_total",
                     (json_int_t)info->memory_total, "memory_available",
                     (json_int_t)info->memory_available);
}

// Opens the device for its limits; one that cannot be opened says why in "error".
static json_t *describe(const struct session *session, const struct settings *settings,
                        uint32_t index)
{
    skim_device_info info = {.size_of = sizeof info};
    if (skim_runtime_device_info(session->runtime, index, &info) != SKIM_OK)
        return NULL;
    skim_device *device = NULL;
    skim_device_options options = {
        .size_of = sizeof options, .threads = settings->threads, .disable = settings->disable};
    skim_status status = skim_device_open(session->runtime, info.selector, &options, &device);
    if (status != SKIM_OK) {
        char text[512] = "";
        skim_runtime_error(session->runtime, text, sizeof text);
        json_t *result = device_json(&info);
        json_object_set_new(result, "error", json_string(*text ? text : skim_status_name(status)));
        return result;
    }
    skim_device_get_info(device, &info);
    json_t *result = device_json(&info);
    skim_limits limits = {.size_of = sizeof limits};
    if (skim_device_get_limits(device, &limits) == SKIM_OK)
        json_object_set_new(result, "limits", limits_json(&limits));
    skim_device_close(device);
    return result;
}

static json_t *collect(const struct session *session, const struct settings *settings)
{
    json_t *backends = json_array();
    uint32_t backend_count = skim_runtime_backend_count(session->runtime);
    uint32_t device_count = skim_runtime_device_count(session->runtime);
    for (uint32_t b = 0; b < backend_count; b++) {
        skim_backend_info info = {.size_of = sizeof info};
        if (skim_runtime_backend_info(session->runtime, b, &info) != SKIM_OK)
            continue;
        json_t *devices = json_array();
        for (uint32_t d = 0; d < device_count; d++) {
            skim_device_info device = {.size_of = sizeof device};
            if (skim_runtime_device_info(session->runtime, d, &device) == SKIM_OK &&
                strcmp(device.backend, info.name) == 0)
                json_array_append_new(devices, describe(session, settings, d));
        }
        json_array_append_new(backends,
                              json_pack("{s:s, s:o, s:s}", "name", info.name, "devices", devices,
                                        "reason", info.reason ? info.reason : ""));
    }
    return json_pack("{s:s, s:o}", "version", skim_version(), "backends", backends);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_value(const json_t *value)
{
    const json_t *item;
    size_t i;
    if (json_is_string(value))
        printf(" %s", json_string_value(value));
    else if (json_is_integer(value))
        printf(" %" JSON_INTEGER_FORMAT, json_integer_value(value));
    json_array_foreach((json_t *)value, i, item) print_value(item);
}

static void print_device(const json_t *device)
{
    double total = json_number_value(json_object_get(device, "memory_total"));
    double available = json_number_value(json_object_get(device, "memory_available"));
    printf("%s: %s (%s), driver %s\n", text_of(device, "selector"), text_of(device, "name"),
           text_of(device, "type"), text_of(device, "driver"));
    printf("    memory %s, available %s\n", report_bytes(total).text, report_bytes(available).text);
    if (*text_of(device, "error"))
        printf("    cannot be opened: %s\n", text_of(device, "error"));
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(device, "limits"), key, value)
    {
        printf("    %s", key);
        print_value(value);
        putchar('\n');
    }
}

static void print_backends(const json_t *all)
{
    const json_t *backend;
    const json_t *device;
    size_t b;
    size_t d;
    json_array_foreach(json_object_get(all, "backends"), b, backend)
    {
        json_array_foreach(json_object_get(backend, "devices"), d, device) print_device(device);
        if (d == 0)
            printf("%s: none: %s\n", text_of(backend, "name"), text_of(backend, "reason"));
    }
}

int devices_run(const struct settings *settings)
{
    struct session session;
    int status = session_start(&session, settings);
    if (status)
        return status;
    json_t *all = collect(&session, settings);
    skim_runtime_destroy(session.runtime);
    if (settings->json || !all)
        return report_json(all);
    print_backends(all);
    json_decref(all);
    return EXIT_DONE;
}
