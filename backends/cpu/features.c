#include "backends/cpu/features.h"

#include "skim/device.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)

#include <cpuid.h>

enum {
    LEAF1_ECX = 1u << 12 | 1u << 23 | 1u << 27 | 1u << 28 | 1u << 29, // FMA POPCNT OSXSAVE AVX F16C
    LEAF7_EBX_AVX2 = 1u << 5,
    LEAF7_EBX_AVX512 = 1u << 16 | 1u << 17 | 1u << 30, // F DQ BW
    XCR0_AVX = 0x6,                                    // SSE and AVX state
    XCR0_AVX512 = 0xe6                                 // and opmask, upper ZMM, ZMM16-31
};
#define LEAF7_EBX_AVX512VL (1u << 31)

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

uint64_t skim_cpu_features(void)
{
    unsigned int eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & LEAF1_ECX) != LEAF1_ECX)
        return 0;
    uint64_t enabled = read_xcr0();
    if ((enabled & XCR0_AVX) != XCR0_AVX)
        return 0;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(ebx & LEAF7_EBX_AVX2))
        return 0;
    const unsigned int avx512 = LEAF7_EBX_AVX512 | LEAF7_EBX_AVX512VL;
    if ((enabled & XCR0_AVX512) != XCR0_AVX512 || (ebx & avx512) != avx512)
        return SKIM_FEATURE_AVX2;
    return SKIM_FEATURE_AVX2 | SKIM_FEATURE_AVX512;
}

static void read_name(char text[49])
{
    unsigned int words[12] = {0};
    unsigned int eax, ebx, ecx, edx;
    if (__get_cpuid(0x80000000u, &eax, &ebx, &ecx, &edx) && eax >= 0x80000004u)
        for (unsigned int i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, words + 4 * i, words + 4 * i + 1, words + 4 * i + 2,
                        words + 4 * i + 3);
    memcpy(text, words, 48);
    text[48] = '\0';
}

#else

uint64_t skim_cpu_features(void)
{
    return 0;
}

static void read_name(char text[49])
{
    text[0] = '\0';
}

#endif

void skim_cpu_name(char *name, size_t size)
{
    char text[49];
    read_name(text);
    const char *start = text + strspn(text, " ");
    int length = (int)strlen(start);
    while (length > 0 && start[length - 1] == ' ')
        length--;
    if (length == 0)
        snprintf(name, size, "CPU");
    else
        snprintf(name, size, "%.*s", length, start);
}

uint32_t skim_cpu_processors(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
#endif
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}
