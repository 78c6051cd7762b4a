// The oracle checked by hand-computed answers and by properties; needs no library.
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int passed;
static int failed;

static void expect(bool condition, const char *what)
{
    passed += condition;
    failed += !condition;
    if (!condition) {
        printf("FAILED %s\n", what);
    }
}

static void check_f16(void)
{
    bool round_trip = true;
    for (uint32_t bits = 0; bits < 0x10000u; bits++) {
        float value = reference_f16_to_f32((uint16_t)bits);
        round_trip &= isnan(value) || reference_f32_to_f16(value) == bits;
    }
    expect(round_trip, "every f16 survives f32");
    expect(reference_f16_to_f32(0x3c00) == 1.0f, "f16 one");
    expect(reference_f16_to_f32(0x7bff) == 65504.0f, "f16 largest");
    expect(reference_f16_to_f32(0x0001) == 0x1p-24f, "f16 smallest");
    expect(reference_f32_to_f16(65519.0f) == 0x7bff, "f16 below the overflow");
    expect(reference_f32_to_f16(65520.0f) == 0x7c00, "f16 overflow");
    expect(reference_f32_to_f16(1.0f + 0x1p-11f) == 0x3c00, "f16 tie to even below");
    expect(reference_f32_to_f16(1.0f + 0x3p-11f) == 0x3c02, "f16 tie to even above");
    expect(reference_f32_to_f16(0x1p-25f) == 0, "f16 tie to zero");
    expect(reference_f32_to_f16(0x1.8p-24f) == 2, "f16 subnormal tie to even");
    expect(reference_f32_to_f16(0x1.ffep-15f) == 0x0400, "f16 subnormal that rounds to normal");
    expect(reference_f32_to_f16(-INFINITY) == 0xfc00, "f16 infinity");
    expect(isnan(reference_f16_to_f32(reference_f32_to_f16(NAN))), "f16 NaN");
}

static void check_bf16(void)
{
    bool round_trip = true;
    for (uint32_t bits = 0; bits < 0x10000u; bits++) {
        float value = reference_bf16_to_f32((uint16_t)bits);
        round_trip &= isnan(value) || reference_f32_to_bf16(value) == bits;
    }
    expect(round_trip, "every bf16 survives f32");
    expect(reference_f32_to_bf16(1.0f + 0x1p-8f) == 0x3f80, "bf16 tie to even below");
    expect(reference_f32_to_bf16(1.0f + 0x3p-8f) == 0x3f82, "bf16 tie to even above");
    expect(reference_f32_to_bf16(3.4e38f) == 0x7f80, "bf16 overflow");
    expect(isnan(reference_bf16_to_f32(reference_f32_to_bf16(NAN))), "bf16 NaN");
    expect(reference_ulp(1.0, SKIM_BF16) == 0x1p-7, "bf16 ulp");
    expect(reference_ulp(1.0, SKIM_F16) == 0x1p-10, "f16 ulp");
    expect(reference_ulp(-1.5, SKIM_F32) == 0x1p-23, "f32 ulp");
    expect(reference_ulp(0x1p-20, SKIM_F16) == 0x1p-24, "f16 subnormal ulp");
}

// Figure 5 of the paper; the second score is misprinted there as 32.
static void check_figure(void)
{
    const float q[8] = {-1, 1, 3, 0, 1, 0, -3, 2};
    const double min0[8] = {-3, -4, -1, -1, -1, -4, -4, -4};
    const double max0[8] = {4, 3, 4, 3, 3, 2, 1, 3};
    const double min1[8] = {-4, -3, -3, -3, -3, 2, -3, -2};
    const double max1[8] = {2, 2, 3, 3, 3, 3, 0, 4};
    expect(reference_score(SKIM_BOUNDS_MINMAX, 1, q, max0, min0, 8, NULL) == 39,
           "figure 5, page 0");
    expect(reference_score(SKIM_BOUNDS_MINMAX, 1, q, max1, min1, 8, NULL) == 35,
           "figure 5, page 1");
}

static void check_bounds(void)
{
    const float keys[6] = {1, -2, 4, -2, 1, -8};
    double b0[2];
    double b1[2];
    reference_bounds(SKIM_BOUNDS_MINMAX, keys, 2, 3, 2, b0, b1);
    expect(b0[0] == 4 && b0[1] == -2 && b1[0] == 1 && b1[1] == -8, "minmax");
    reference_bounds(SKIM_BOUNDS_MEANSTD, keys, 2, 3, 2, b0, b1);
    expect(b0[0] == 2 && b0[1] == -4, "mean");
    expect(fabs(b1[0] - sqrt(2)) < 1e-15 && fabs(b1[1] - sqrt(8)) < 1e-15, "population deviation");
    const float q[2] = {2, -1};
    double expected = 2 * 2 + 4 + 3 * (2 * sqrt(2) + sqrt(8));
    double score = reference_score(SKIM_BOUNDS_MEANSTD, 3, q, b0, b1, 2, NULL);
    expect(fabs(score - expected) < 1e-12, "meanstd score");
}

// By hand: distances 12.7 and 6.35 from the centre, so that the scale is a little more than 0.1.
static void check_bounds_i8(void)
{
    const float keys[4] = {11.7f, 5, -4.35f, 2};
    const double centre[2] = {-1, 3};
    double value[4];
    double margin[4];
    reference_i8 bounds = {.value = value, .margin = margin};
    reference_bounds_i8(SKIM_BOUNDS_MINMAX, keys, 2, 2, 2, centre, 0, &bounds);
    expect(fabs(bounds.scale[0] - 0.1) < 2e-6 && fabs(bounds.scale[1] - 3.35 / 127) < 1e-6,
           "i8 scales");
    expect(value[0] - margin[0] >= (double)keys[0] && value[0] + margin[0] < 11.702, "i8 maximum");
    // 5 is 20 steps from 3, less a little: the maximum is 20 steps away.
    expect(value[1] - margin[1] >= 5 && fabs(value[1] - 5) < 1e-4, "i8 maximum of another channel");
    expect(value[2] + margin[2] <= (double)keys[2] && value[2] - margin[2] > -4.3502, "i8 minimum");
    // 2 is 37.9 steps of 0.02638 below 3: the minimum is 38 away.
    expect(fabs(value[3] - (3 - 38 * bounds.scale[1])) < 1e-4, "i8 minimum, rounded outward");
    const float q[2] = {1, -1};
    double low;
    double high;
    reference_score_i8(SKIM_BOUNDS_MINMAX, 1, q, &bounds, centre, 2, &low, &high, NULL);
    expect(low >= 11.7f - 2 && low < 9.71 && high > low && high < 9.74, "i8 score");

    const float same[4] = {-1, 3, -1, 3};
    reference_bounds_i8(SKIM_BOUNDS_MINMAX, same, 2, 2, 2, centre, 0, &bounds);
    expect(bounds.scale[0] == 0 && value[0] == -1 && value[3] == 3 && margin[0] == 0,
           "keys that are the centre");
    reference_bounds_i8(SKIM_BOUNDS_MEANSTD, keys, 2, 2, 2, centre, 0, &bounds);
    expect(fabs(value[0] - 3.675) < 1e-4 && fabs(value[2] - 8.025) < 1e-4, "i8 mean, deviation");
    expect(fabs(value[3] - 1.5) <= bounds.scale[1] / 2 + 1e-5, "i8 deviation, to nearest");
}

static void check_resolve(void)
{
    skim_policy policy = {.budget = 100, .recent_pages = 1};
    reference_plan plan = reference_resolve(&policy, 0, 16, 161, 1);
    expect(plan.page_count == 11 && plan.select_count == 6 && !plan.dense, "K rounds down");
    policy.budget = 7;
    expect(reference_resolve(&policy, 0, 16, 161, 1).select_count == 1, "K is at least one");
    policy.sink_pages = 2;
    policy.recent_pages = 3;
    expect(reference_resolve(&policy, 0, 16, 161, 1).select_count == 5, "forced pages raise K");
    policy.sink_pages = 9;
    plan = reference_resolve(&policy, 0, 16, 161, 1);
    expect(plan.dense && plan.select_count == 11, "forced pages cover all");
    policy = (skim_policy){.budget_fraction = 0.25, .recent_pages = 0};
    plan = reference_resolve(&policy, 0, 8, 320, 1);
    expect(plan.select_count == 10 && plan.forced_last == 1, "fraction; the last page is forced");
    expect(reference_resolve(&policy, 0, 8, 320, 2).dense, "prefill is dense");
    policy.dense_layers = 2;
    expect(reference_resolve(&policy, 1, 8, 320, 1).dense, "first layers are dense");
    expect(!reference_resolve(&policy, 2, 8, 320, 1).dense, "later layers are not");
    policy.dense_below = 321;
    expect(reference_resolve(&policy, 2, 8, 320, 1).dense, "dense below");
    policy.dense_below = 320;
    expect(!reference_resolve(&policy, 2, 8, 320, 1).dense, "not dense at dense_below");
}

static void check_select(void)
{
    reference_plan plan = {.page_count = 7, .select_count = 4, .forced_first = 1, .forced_last = 1};
    const double scores[14] = {9, 1, 3, 3, 2, 3, 9, 9, 5, 1, 1, 1, 1, 9};
    double combined[7];
    uint32_t list[7];
    reference_combine(&plan, SKIM_COMBINE_MAX, 1, scores, 7, 1, combined);
    uint32_t count = reference_select(&plan, combined, list);
    expect(count == 4 && !memcmp(list, (uint32_t[4]){0, 2, 3, 6}, 16), "ties to the lower page");
    reference_combine(&plan, SKIM_COMBINE_MAX, 1, scores, 7, 2, combined);
    reference_select(&plan, combined, list);
    expect(!memcmp(list, (uint32_t[4]){0, 1, 2, 6}, 16), "max over heads");
    reference_combine(&plan, SKIM_COMBINE_MEAN, 1, scores, 7, 2, combined);
    expect(combined[1] == 3 && combined[2] == 2, "mean over heads");
    reference_combine(&plan, SKIM_COMBINE_SOFTMAX_MAX, 1, scores, 7, 2, combined);
    double norm0 = log(exp(1) + 3 * exp(3) + exp(2));
    double norm1 = log(exp(5) + 4 * exp(1));
    expect(fabs(combined[1] - (5 - norm1)) < 1e-12, "softmax-max, second head");
    expect(fabs(combined[2] - (3 - norm0)) < 1e-12, "softmax-max, first head");
    reference_combine(&plan, SKIM_COMBINE_SOFTMAX_MEAN, 1, scores, 7, 2, combined);
    double expected = log((exp(1 - norm0) + exp(5 - norm1)) / 2);
    expect(fabs(combined[1] - expected) < 1e-12, "softmax-mean");
}

static void check_attend(void)
{
    const float q[1] = {2};
    const float keys[4] = {0, 1, -1, 3};
    const float values[4] = {10, 20, 30, 40};
    reference_attend_args args = {q, keys, values, 1, 1, 0.5, (uint32_t[3]){0, 1, 3}, 3};
    double weights[4];
    double out;
    double lse;
    double largest;
    reference_attend(&args, weights, &out, &lse, &largest);
    double sum = 1 + exp(1) + exp(3);
    expect(fabs(out - (10 + 20 * exp(1) + 40 * exp(3)) / sum) < 1e-12, "attend");
    expect(fabs(lse - log(sum)) < 1e-12 && largest == 3, "lse and largest");

    args.count = 1;
    double merged;
    double merged_lse;
    reference_attend(&args, weights, &merged, &merged_lse, NULL);
    args.tokens = (uint32_t[2]){1, 3};
    args.count = 2;
    double part;
    double part_lse;
    reference_attend(&args, weights, &part, &part_lse, NULL);
    reference_merge(1, &merged, &merged_lse, &part, part_lse);
    expect(fabs(merged - out) < 1e-12 && fabs(merged_lse - lse) < 1e-12, "merge");

    args.count = 0;
    reference_attend(&args, weights, &part, &part_lse, NULL);
    expect(part == 0 && part_lse == -INFINITY, "attend over nothing");
    reference_merge(1, &merged, &merged_lse, &part, part_lse);
    expect(fabs(merged - out) < 1e-12, "merge with nothing");
    reference_merge(1, &part, &part_lse, &merged, merged_lse);
    expect(fabs(part - out) < 1e-12 && fabs(part_lse - lse) < 1e-12, "merge into nothing");
}

int main(void)
{
    check_f16();
    check_bf16();
    check_figure();
    check_bounds();
    check_bounds_i8();
    check_resolve();
    check_select();
    check_attend();
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
