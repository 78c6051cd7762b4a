// runtime/store.h: a kept value comes back as it was saved, for the same device, or not at all.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/runtime.h"
#include "runtime/store.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 1024 };

// One value, and whatever a test does with it.
typedef struct kept {
    char key[SKIM_STORE_KEY_SIZE];
    unsigned char bytes[CAPACITY];
    size_t size;
    uint32_t allocations_left;
} kept;

static size_t load(void *user, const char *key, void *data, size_t capacity)
{
    const kept *k = user;
    if (strcmp(key, k->key) != 0)
        return 0;
    if (k->size > 0 && k->size <= capacity)
        memcpy(data, k->bytes, k->size);
    return k->size;
}

static void save(void *user, const char *key, const void *data, size_t size)
{
    kept *k = user;
    assert_true(size <= CAPACITY);
    strcpy(k->key, key);
    memcpy(k->bytes, data, size);
    k->size = size;
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    kept *k = user;
    void *memory = NULL;
    if (k->allocations_left == 0 || posix_memalign(&memory, alignment, size) != 0)
        return NULL;
    k->allocations_left--;
    return memory;
}

static void release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user, (void)size, (void)alignment;
    free(memory);
}

typedef struct fixture {
    kept kept;
    skim_host host;
    skim_backend backend;
    skim_device device;
} fixture;

static int setup(void **state)
{
    static fixture f;
    memset(&f, 0, sizeof f);
    f.kept.allocations_left = UINT32_MAX;
    f.host.allocator = (skim_allocator){allocate, release, &f.kept};
    f.host.store = (skim_store){load, save, &f.kept};
    f.backend.name = "vulkan";
    f.device.backend = &f.backend;
    f.device.host = &f.host;
    strcpy(f.device.info.name, "Radeon (tm) RX 7900");
    strcpy(f.device.info.driver, "Mesa 24.0.1 / LLVM 17");
    *state = &f;
    return 0;
}

static const char name[] = "attend.spv dim=64 source=0123456789abcdef";
static const char value[] = "compiled kernel";

static bool comes_back(fixture *f, const char *wanted)
{
    size_t size = 0;
    void *back = skim_store_load(&f->device, wanted, &size);
    if (!back)
        return false;
    assert_int_equal(size, sizeof value);
    assert_memory_equal(back, value, sizeof value);
    skim_release(&f->host, back, size);
    return true;
}

static void what_was_saved_comes_back(void **state)
{
    fixture *f = *state;
    assert_false(comes_back(f, name));
    skim_store_save(&f->device, name, value, sizeof value);
    assert_true(comes_back(f, name));
    assert_true(comes_back(f, name));
    assert_false(comes_back(f, "attend.spv dim=128 source=0123456789abcdef"));
}

static void no_changed_byte_and_no_other_length_is_accepted(void **state)
{
    fixture *f = *state;
    skim_store_save(&f->device, name, value, sizeof value);
    const kept right = f->kept;
    for (size_t i = 0; i < right.size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            f->kept.bytes[i] ^= (unsigned char)(1 << bit);
            assert_false(comes_back(f, name));
            f->kept.bytes[i] = right.bytes[i];
        }
    }
    for (size_t size = 0; size < CAPACITY; size++) {
        f->kept.size = size;
        assert_true(comes_back(f, name) == (size == right.size));
    }
}

// Under the same key, as if the hashes in it were equal.
static void what_is_for_something_else_is_not_accepted(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {
        "attend.spv dim=64 source=0123456789abcdeX", // as long
        "attend.spv dim=64 source=0123456789abcde",  // shorter
        "attend.spv dim=64 source=0123456789abcdef0",
    };
    for (int i = 0; i < 3; i++) {
        skim_store_save(&f->device, names[i], value, sizeof value);
        skim_store_key(&f->device, name, f->kept.key);
        assert_false(comes_back(f, name));
    }
    struct {
        char *text;
        const char *other;
    } fields[] = {{f->device.info.name, "Radeon (tm) RX 7800"},
                  {f->device.info.driver, "Mesa 24.0.2 / LLVM 17"}};
    for (int i = 0; i < 2; i++) {
        char right[128];
        skim_store_save(&f->device, name, value, sizeof value);
        strcpy(right, fields[i].text);
        strcpy(fields[i].text, fields[i].other);
        assert_false(comes_back(f, name)); // another key
        skim_store_key(&f->device, name, f->kept.key);
        assert_false(comes_back(f, name));
        strcpy(fields[i].text, right);
    }
    skim_store_save(&f->device, name, value, sizeof value);
    f->backend.name = "opencl";
    skim_store_key(&f->device, name, f->kept.key);
    assert_false(comes_back(f, name));
}

static void keys_fit_for_file_names_and_tell_names_apart(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {"a",
                                        "A",
                                        "a ",
                                        "a/b",
                                        "a_b",
                                        "",
                                        "..",
                                        "\xc3\xa9\n",
                                        "0123456789012345678901234567890123456789012345678901234567"
                                        "89012345678901234567890123456789",
                                        "0123456789012345678901234567890123456789012345678901234567"
                                        "8901234567890123456789012345678X"};
    enum { NAMES = sizeof names / sizeof *names };
    char keys[NAMES][SKIM_STORE_KEY_SIZE];
    for (int i = 0; i < NAMES; i++) {
        skim_store_key(&f->device, names[i], keys[i]);
        size_t length = strlen(keys[i]);
        assert_true(length < SKIM_STORE_KEY_SIZE);
        assert_int_equal(strspn(keys[i], "abcdefghijklmnopqrstuvwxyz0123456789-_."), length);
        assert_memory_equal(keys[i], "skim-vulkan-", 12);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(keys[i], keys[j]);
    }
}

static void sizes_out_of_bounds_are_neither_saved_nor_believed(void **state)
{
    fixture *f = *state;
    skim_store_save(&f->device, name, value, 0);
    assert_int_equal(f->kept.size, 0);
    skim_store_save(&f->device, name, value, SKIM_STORE_VALUE_MAX + 1);
    assert_int_equal(f->kept.size, 0);
    skim_store_key(&f->device, name, f->kept.key);
    f->kept.size = SIZE_MAX;
    f->kept.allocations_left = 0;
    assert_false(comes_back(f, name)); // and no memory was asked for
    f->host.allocator.allocate = NULL;
    assert_false(comes_back(f, name));
}

static void without_memory_nothing_is_saved_and_nothing_comes_back(void **state)
{
    fixture *f = *state;
    f->kept.allocations_left = 0;
    skim_store_save(&f->device, name, value, sizeof value);
    assert_int_equal(f->kept.size, 0);
    f->kept.allocations_left = 1;
    skim_store_save(&f->device, name, value, sizeof value);
    for (uint32_t left = 0; left < 2; left++) {
        f->kept.allocations_left = left;
        assert_false(comes_back(f, name));
    }
    f->kept.allocations_left = 2;
    assert_true(comes_back(f, name));
}

static void without_a_store_nobody_is_called(void **state)
{
    fixture *f = *state;
    f->host.store = (skim_store){0};
    skim_store_save(&f->device, name, value, sizeof value);
    assert_false(comes_back(f, name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_saved_comes_back, setup),
        cmocka_unit_test_setup(no_changed_byte_and_no_other_length_is_accepted, setup),
        cmocka_unit_test_setup(what_is_for_something_else_is_not_accepted, setup),
        cmocka_unit_test_setup(keys_fit_for_file_names_and_tell_names_apart, setup),
        cmocka_unit_test_setup(sizes_out_of_bounds_are_neither_saved_nor_believed, setup),
        cmocka_unit_test_setup(without_memory_nothing_is_saved_and_nothing_comes_back, setup),
        cmocka_unit_test_setup(without_a_store_nobody_is_called, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
