// A kept value is framed: a header, the texts that say what it is for, the bytes. Numbers are
// little-endian.
//
//      0  8 bytes  "SKIMKEPT"
//      8  u32      version of this frame
//     12  u32      bytes of the texts
//     16  u64      bytes of the value
//     24  u64      XXH64 of the 24 bytes above, the texts and the value
//     32           the texts, each with its terminator, then the value
#include "runtime/store.h"

#include "runtime/checksum.h"

#include <stdio.h>
#include <string.h>

enum { FRAME_VERSION = 1, FRAME_HEADER = 32, CHECKSUM_AT = 24, TEXTS = 5, NAME_IN_KEY = 64 };

static const char magic[8] = {'S', 'K', 'I', 'M', 'K', 'E', 'P', 'T'};

typedef struct identity {
    const char *texts[TEXTS];
    size_t size; // of all, with their terminators
} identity;

static identity identity_of(const skim_device *device, const char *name)
{
    identity made = {.texts = {skim_version(), device->backend->name, device->info.name,
                               device->info.driver, name}};
    for (int i = 0; i < TEXTS; i++)
        made.size += strlen(made.texts[i]) + 1;
    return made;
}

static uint64_t frame_checksum(const unsigned char *frame, size_t size)
{
    skim_checksum checksum;
    skim_checksum_begin(&checksum, 0);
    skim_checksum_add(&checksum, frame, CHECKSUM_AT);
    skim_checksum_add(&checksum, frame + FRAME_HEADER, size - FRAME_HEADER);
    return skim_checksum_value(&checksum);
}

// --- keys

static char key_character(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a'); // some file systems do not tell them apart
    bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    return kept ? c : '_';
}

void skim_store_key(const skim_device *device, const char *name, char key[SKIM_STORE_KEY_SIZE])
{
    identity own = identity_of(device, name);
    skim_checksum checksum;
    skim_checksum_begin(&checksum, 0);
    for (int i = 0; i < TEXTS; i++)
        skim_checksum_add(&checksum, own.texts[i], strlen(own.texts[i]) + 1);
    uint64_t state = skim_checksum_value(&checksum);
    snprintf(key, SKIM_STORE_KEY_SIZE, "skim-%.16s-%.*s-%08lx%08lx", device->backend->name,
             NAME_IN_KEY, name, (unsigned long)(state >> 32), (unsigned long)(uint32_t)state);
    for (char *c = key; *c; c++)
        *c = key_character(*c);
}

// --- frames

static void put(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *from, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static void write_frame(unsigned char *frame, const identity *own, const void *value, size_t size)
{
    memcpy(frame, magic, sizeof magic);
    put(frame + 8, FRAME_VERSION, 4);
    put(frame + 12, own->size, 4);
    put(frame + 16, size, 8);
    unsigned char *to = frame + FRAME_HEADER;
    for (int i = 0; i < TEXTS; i++) {
        size_t length = strlen(own->texts[i]) + 1;
        memcpy(to, own->texts[i], length);
        to += length;
    }
    memcpy(to, value, size);
    put(frame + CHECKSUM_AT, frame_checksum(frame, FRAME_HEADER + own->size + size), 8);
}

static bool is_for(const unsigned char *texts, const identity *own)
{
    for (int i = 0; i < TEXTS; i++) {
        size_t length = strlen(own->texts[i]) + 1;
        if (memcmp(texts, own->texts[i], length) != 0)
            return false;
        texts += length;
    }
    return true;
}

// What is wrong with a frame of at least the size that its identity and one byte take; NULL if
// nothing is.
static const char *frame_fault(const unsigned char *frame, size_t size, const identity *own)
{
    if (memcmp(frame, magic, sizeof magic) != 0 || get(frame + 8, 4) != FRAME_VERSION)
        return "it is none of Skim's";
    if (get(frame + CHECKSUM_AT, 8) != frame_checksum(frame, size))
        return "it is damaged";
    if (get(frame + 12, 4) != own->size || !is_for(frame + FRAME_HEADER, own))
        return "it belongs to another device, driver or version";
    return get(frame + 16, 8) == size - FRAME_HEADER - own->size ? NULL : "it is damaged";
}

static void note(const skim_device *device, const char *key, const char *fault)
{
    skim_log_write(device->host, SKIM_LOG_WARNING, "what the store keeps as %s is not used: %s",
                   key, fault);
}

// --- load and save

// Asks for the frame, of which the store said that it has `size` bytes.
static bool read_frame(const skim_device *device, const char *key, unsigned char *frame,
                       size_t size, const identity *own)
{
    const skim_store *store = &device->host->store;
    const char *fault = "its size changed while it was read";
    if (store->load(store->user, key, frame, size) == size)
        fault = frame_fault(frame, size, own);
    if (fault)
        note(device, key, fault);
    return !fault;
}

void *skim_store_load(const skim_device *device, const char *name, size_t *size)
{
    const skim_store *store = &device->host->store;
    if (!store->load)
        return NULL;
    char key[SKIM_STORE_KEY_SIZE];
    skim_store_key(device, name, key);
    identity own = identity_of(device, name);
    size_t before = FRAME_HEADER + own.size;
    size_t whole = store->load(store->user, key, NULL, 0);
    if (whole == 0)
        return NULL;
    if (whole <= before || whole - before > SKIM_STORE_VALUE_MAX) {
        note(device, key, "its size is wrong");
        return NULL;
    }
    unsigned char *frame = skim_allocate(device->host, whole);
    void *value = NULL;
    if (frame && read_frame(device, key, frame, whole, &own))
        value = skim_allocate(device->host, whole - before);
    if (value) {
        memcpy(value, frame + before, whole - before);
        *size = whole - before;
    }
    skim_release(device->host, frame, whole);
    return value;
}

void skim_store_save(const skim_device *device, const char *name, const void *value, size_t size)
{
    const skim_store *store = &device->host->store;
    if (!store->save || size == 0 || size > SKIM_STORE_VALUE_MAX)
        return;
    identity own = identity_of(device, name);
    size_t whole = FRAME_HEADER + own.size + size;
    unsigned char *frame = skim_allocate(device->host, whole);
    if (!frame)
        return;
    char key[SKIM_STORE_KEY_SIZE];
    skim_store_key(device, name, key);
    write_frame(frame, &own, value, size);
    store->save(store->user, key, frame, whole);
    skim_release(device->host, frame, whole);
}
