// What the GPU backends plan from a shape (backends/gpu), without a driver.
#include "backends/gpu/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static skim_shape shape_of(uint32_t rows, uint32_t pages, uint32_t kv_heads)
{
    return (skim_shape){.size_of = sizeof(skim_shape),
                        .q_heads = 4 * kv_heads,
                        .kv_heads = kv_heads,
                        .key_dim = 128,
                        .value_dim = 128,
                        .page_size = 16,
                        .type = SKIM_F16,
                        .slots = pages,
                        .max_rows = rows,
                        .max_tokens = rows,
                        .max_pages = pages};
}

// Verbs of smaller capacities run on what was prepared for larger ones.
static void scratch_for_many_rows_holds_the_parts_of_few(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 2, 3, 16, 100, 256, 1000, 1024, 3000, 4096, 5000, 65535};
    static const uint32_t pages[] = {1, 4, 8, 100, 512, 4097, 100000};
    enum { ROWS = sizeof rows / sizeof *rows, PAGES = sizeof pages / sizeof *pages };
    uint32_t in_parts = 0;
    for (uint32_t kv_heads = 1; kv_heads <= 64; kv_heads *= 2)
        for (int r = 0; r < ROWS; r++)
            for (int p = 0; p < PAGES; p++) {
                const skim_shape prepared = shape_of(rows[r], pages[p], kv_heads);
                const uint64_t scratch = skim_gpu_scratch_size(NULL, &prepared);
                for (int i = 0; i <= r; i++)
                    for (int j = 0; j <= p; j++) {
                        const skim_shape used = shape_of(rows[i], pages[j], kv_heads);
                        const uint64_t parts = skim_gpu_parts(&used);
                        const uint64_t lists = (uint64_t)used.max_rows * used.q_heads;
                        in_parts += parts > 1;
                        if (parts > 1)
                            assert_true(parts * lists * (4 + 128) * sizeof(float) <= scratch);
                    }
            }
    assert_true(in_parts > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_for_many_rows_holds_the_parts_of_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
