#include "skim/base.h"
#include "skim/device.h"

#define SKIM_TEXT(x) #x
#define SKIM_VERSION_TEXT(a, b, c) SKIM_TEXT(a) "." SKIM_TEXT(b) "." SKIM_TEXT(c)

const char *skim_version(void)
{
    return SKIM_VERSION_TEXT(SKIM_VERSION_MAJOR, SKIM_VERSION_MINOR, SKIM_VERSION_PATCH);
}

const char *skim_status_name(skim_status status)
{
    static const char *const names[] = {
        [SKIM_OK] = "ok",
        [SKIM_INVALID] = "invalid argument",
        [SKIM_STATE] = "wrong state",
        [SKIM_UNSUPPORTED] = "unsupported",
        [SKIM_NO_DEVICE] = "no device",
        [SKIM_NO_MEMORY] = "out of memory",
        [SKIM_NO_SLOTS] = "out of slots",
        [SKIM_CANCELLED] = "cancelled",
        [SKIM_TIMEOUT] = "timed out",
        [SKIM_FAILED] = "failed",
        [SKIM_DEVICE_LOST] = "device lost",
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown status";
}

size_t skim_type_size(skim_type type)
{
    static const size_t sizes[] = {
        [SKIM_TYPE_NONE] = 0, [SKIM_F32] = 4, [SKIM_F16] = 2, [SKIM_BF16] = 2, [SKIM_U32] = 4};
    return (unsigned)type < sizeof sizes / sizeof *sizes ? sizes[type] : 0;
}

const char *skim_type_name(skim_type type)
{
    static const char *const names[] = {[SKIM_TYPE_NONE] = "none",
                                        [SKIM_F32] = "f32",
                                        [SKIM_F16] = "f16",
                                        [SKIM_BF16] = "bf16",
                                        [SKIM_U32] = "u32"};
    return (unsigned)type < sizeof names / sizeof *names ? names[type] : "none";
}

const char *skim_feature_name(uint64_t feature)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } names[] = {
        {SKIM_FEATURE_AVX2, "avx2"},           {SKIM_FEATURE_AVX512, "avx512"},
        {SKIM_FEATURE_SUBGROUPS, "subgroups"}, {SKIM_FEATURE_FP16, "fp16"},
        {SKIM_FEATURE_WIDE, "wide"},           {SKIM_FEATURE_TENSOR, "tensor"},
        {SKIM_FEATURE_SERIAL, "serial"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (feature == names[i].bit)
            return names[i].name;
    return NULL;
}
