#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUARD = 64, POISON = 0xa5, GUARD_BYTE = 0x5c };

static void enter(host *h)
{
    if (h->delay_us)
        usleep(h->delay_us);
    if (h->call_back)
        h->call_back(h->call_back_user);
    pthread_mutex_lock(&h->mutex);
}

static void leave(host *h)
{
    pthread_mutex_unlock(&h->mutex);
}

// --- memory

static void note_thread(host *h)
{
    for (uint32_t i = 0; i < h->thread_count; i++) {
        if (pthread_equal(h->threads[i], pthread_self()))
            return;
    }
    if (h->thread_count < HOST_THREADS)
        h->threads[h->thread_count++] = pthread_self();
}

static size_t guard_before(size_t alignment)
{
    return alignment > GUARD ? alignment : (size_t)GUARD;
}

static host_block *make_block(size_t size, size_t alignment)
{
    host_block *block = (host_block *)malloc(sizeof *block);
    size_t before = guard_before(alignment);
    if (!block ||
        posix_memalign(&block->base, alignment < 16 ? 16 : alignment, before + size + GUARD) != 0) {
        free(block);
        return NULL;
    }
    block->memory = (char *)block->base + before;
    block->size = size;
    block->alignment = alignment;
    memset(block->memory - GUARD, GUARD_BYTE, GUARD);
    memset(block->memory, POISON, size);
    memset(block->memory + size, GUARD_BYTE, GUARD);
    return block;
}

static void *host_allocate(void *user, size_t size, size_t alignment)
{
    host *h = (host *)user;
    enter(h);
    CHECK(size > 0);
    CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0);
    note_thread(h);
    h->allocated++;
    bool fails = h->fail_from && h->allocated >= h->fail_from && h->failed < h->fail_count;
    h->failed += fails;
    host_block *block = fails ? NULL : make_block(size, alignment);
    if (block) {
        block->next = h->blocks;
        h->blocks = block;
    }
    leave(h);
    return block ? block->memory : NULL;
}

static bool is_all(const char *bytes, size_t size, int value)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)bytes[i] != value)
            return false;
    }
    return true;
}

static bool was_wiped(const host_block *block)
{
    for (size_t i = 0; i < block->size; i++) {
        unsigned char byte = (unsigned char)block->memory[i];
        if (byte != 0 && byte != POISON)
            return false;
    }
    return true;
}

static void host_release(void *user, void *memory, size_t size, size_t alignment)
{
    host *h = (host *)user;
    enter(h);
    host_block **link = &h->blocks;
    while (*link && (*link)->memory != memory)
        link = &(*link)->next;
    host_block *block = *link;
    CHECK(block != NULL);
    CHECK_EQUAL(size, block->size);
    CHECK_EQUAL(alignment, block->alignment);
    CHECK(is_all(block->memory - GUARD, GUARD, GUARD_BYTE));
    CHECK(is_all(block->memory + size, GUARD, GUARD_BYTE));
    if (h->watch && !was_wiped(block))
        h->watched = true;
    *link = block->next;
    free(block->base);
    free(block);
    leave(h);
}

uint32_t host_blocks_alive(host *h)
{
    uint32_t count = 0;
    pthread_mutex_lock(&h->mutex);
    for (const host_block *block = h->blocks; block; block = block->next)
        count++;
    pthread_mutex_unlock(&h->mutex);
    return count;
}

// --- log

static void host_message(void *user, skim_log_level level, const char *text)
{
    host *h = (host *)user;
    enter(h);
    CHECK(h->message_count < HOST_MESSAGES);
    CHECK(level >= SKIM_LOG_ERROR && level <= SKIM_LOG_DEBUG);
    CHECK(text && text[0] && !strchr(text, '\n'));
    h->levels[h->message_count] = level;
    snprintf(h->messages[h->message_count++], sizeof h->messages[0], "%s", text);
    leave(h);
}

uint32_t host_said(const host *h, const char *text)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < h->message_count; i++)
        count += strstr(h->messages[i], text) != NULL;
    return count;
}

// --- store

static void check_key(const char *key)
{
    size_t length = strlen(key);
    CHECK(length > 0 && length < 128 && key[0] != '.');
    CHECK_EQUAL(strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_."), length);
}

static host_value *find_value(host *h, const char *key)
{
    for (uint32_t i = 0; i < h->value_count; i++) {
        if (strcmp(h->values[i].key, key) == 0)
            return &h->values[i];
    }
    return NULL;
}

// What the store says the size is; asked is false for the second question, where data may go.
static size_t told_size(const host *h, const host_value *value, bool asked)
{
    switch (h->lie) {
    case HOST_KEEPS_NOTHING:
        return 0;
    case HOST_SHORT:
        return value->size - 1;
    case HOST_LONG:
        return value->size + 1;
    case HOST_HUGE:
        return SIZE_MAX;
    case HOST_ONE_BYTE:
        return 1;
    case HOST_GROWS:
        return asked ? value->size : value->size + 1;
    case HOST_SHRINKS:
        return asked ? value->size : value->size - 1;
    case HOST_VANISHES:
        return asked ? value->size : 0;
    default:
        return value->size;
    }
}

static void write_value(const host *h, const host_value *value, char *data, size_t size)
{
    if (h->lie == HOST_SAYS_WROTE)
        return;
    for (size_t i = 0; i < size; i++)
        data[i] = h->lie == HOST_RANDOM ? (char)(i * 29 + 7)
                                        : value->data[i < value->size ? i : value->size - 1];
    if (h->lie == HOST_FLIPPED)
        data[size / 2] ^= 0x10;
}

static size_t host_load(void *user, const char *key, void *data, size_t capacity)
{
    host *h = (host *)user;
    enter(h);
    check_key(key);
    h->loads++;
    const host_value *value = find_value(h, key);
    if (value && h->lie == HOST_SWAPPED)
        value = &h->values[(value - h->values + 1) % h->value_count];
    size_t size = value ? told_size(h, value, capacity == 0) : 0;
    if (size > 0 && size <= capacity)
        write_value(h, value, (char *)data, size);
    leave(h);
    return size;
}

static void host_save(void *user, const char *key, const void *data, size_t size)
{
    host *h = (host *)user;
    enter(h);
    check_key(key);
    CHECK(size > 0);
    h->saves++;
    host_value *value = find_value(h, key);
    if (!value) {
        CHECK(h->value_count < HOST_VALUES);
        value = &h->values[h->value_count++];
        snprintf(value->key, sizeof value->key, "%s", key);
    }
    free(value->data);
    value->data = (char *)malloc(size);
    CHECK(value->data != NULL);
    memcpy(value->data, data, size);
    value->size = size;
    leave(h);
}

// --- life

void host_init(host *h)
{
    memset(h, 0, sizeof *h);
    pthread_mutex_init(&h->mutex, NULL);
}

void host_deinit(host *h)
{
    CHECK_EQUAL(host_blocks_alive(h), 0);
    for (uint32_t i = 0; i < h->value_count; i++)
        free(h->values[i].data);
    pthread_mutex_destroy(&h->mutex);
}

skim_runtime_options host_options(host *h, skim_log_level level)
{
    skim_runtime_options options;
    memset(&options, 0, sizeof options);
    options.size_of = sizeof options;
    options.allocator.allocate = host_allocate;
    options.allocator.release = host_release;
    options.allocator.user = h;
    options.log.message = host_message;
    options.log.level = level;
    options.log.user = h;
    options.store.load = host_load;
    options.store.save = host_save;
    options.store.user = h;
    return options;
}
