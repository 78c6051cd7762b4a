#include "runtime/snapshot_format.h"

#include "runtime/checksum.h"
#include "runtime/memory.h"
#include "runtime/validate.h"

#include <string.h>

// Where the header's fields are.
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_PAGE_SIZE = 12,
    AT_LAYER_COUNT = 16,
    AT_RESERVED = 20,
    AT_TOKENS = 24,
    AT_BLOB_SIZE = 32,
    AT_FINGERPRINT = 40,
    AT_RESERVED_TOO = 72,
    AT_CHECKSUM = 88
};

// Where a record's are.
enum {
    AT_KV_HEADS = 0,
    AT_KEY_DIM = 4,
    AT_VALUE_DIM = 8,
    AT_TYPE = 12,
    AT_FLAGS = 16,
    AT_REST = 20
};

enum { FLAG_CENTRE = 1 };

// The first byte is no text, and the line ends change when a file is taken for text.
static const uint8_t magic[8] = {0x93, 'S', 'K', 'I', 'M', '\r', '\n', 0x1A};

static void store32(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t load32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

void skim_snapshot_store64(uint8_t bytes[8], uint64_t value)
{
    store32(bytes, (uint32_t)value);
    store32(bytes + 4, (uint32_t)(value >> 32));
}

uint64_t skim_snapshot_load64(const uint8_t bytes[8])
{
    return load32(bytes) | (uint64_t)load32(bytes + 4) << 32;
}

// --- emitting

void skim_snapshot_emit_header(const skim_snapshot_header *header,
                               uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE])
{
    memset(bytes, 0, SKIM_SNAPSHOT_HEADER_SIZE);
    memcpy(bytes + AT_MAGIC, magic, sizeof magic);
    store32(bytes + AT_VERSION, SKIM_SNAPSHOT_VERSION);
    store32(bytes + AT_PAGE_SIZE, header->page_size);
    store32(bytes + AT_LAYER_COUNT, header->layer_count);
    skim_snapshot_store64(bytes + AT_TOKENS, header->tokens);
    skim_snapshot_store64(bytes + AT_BLOB_SIZE, header->blob_size);
    memcpy(bytes + AT_FINGERPRINT, header->fingerprint, sizeof header->fingerprint);
    skim_snapshot_store64(bytes + AT_CHECKSUM, skim_checksum_of(bytes, AT_CHECKSUM));
}

void skim_snapshot_emit_layer(const skim_snapshot_layer *layer,
                              uint8_t bytes[SKIM_SNAPSHOT_RECORD_SIZE])
{
    memset(bytes, 0, SKIM_SNAPSHOT_RECORD_SIZE);
    store32(bytes + AT_KV_HEADS, layer->kv_heads);
    store32(bytes + AT_KEY_DIM, layer->key_dim);
    store32(bytes + AT_VALUE_DIM, layer->value_dim);
    store32(bytes + AT_TYPE, (uint32_t)layer->type);
    store32(bytes + AT_FLAGS, layer->has_centre ? FLAG_CENTRE : 0);
}

// --- parsing

static bool all_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

static skim_status check_start(const uint8_t *bytes, skim_error *error)
{
    if (memcmp(bytes + AT_MAGIC, magic, sizeof magic) != 0)
        return skim_fail(error, SKIM_INVALID, "this is no snapshot of Skim's");
    // Before the checksum: a later version may keep it elsewhere.
    uint32_t version = load32(bytes + AT_VERSION);
    if (version != SKIM_SNAPSHOT_VERSION)
        return skim_fail(error, SKIM_UNSUPPORTED,
                         "the snapshot has format version %u; this library reads version %d",
                         version, SKIM_SNAPSHOT_VERSION);
    if (skim_snapshot_load64(bytes + AT_CHECKSUM) != skim_checksum_of(bytes, AT_CHECKSUM))
        return skim_fail(error, SKIM_INVALID,
                         "the snapshot is damaged: the checksum of its header is wrong");
    return SKIM_OK;
}

skim_status skim_snapshot_parse_header(const uint8_t bytes[SKIM_SNAPSHOT_HEADER_SIZE],
                                       skim_snapshot_header *header, skim_error *error)
{
    skim_status status = check_start(bytes, error);
    if (status != SKIM_OK)
        return status;
    skim_snapshot_header parsed = {
        .page_size = load32(bytes + AT_PAGE_SIZE),
        .layer_count = load32(bytes + AT_LAYER_COUNT),
        .tokens = skim_snapshot_load64(bytes + AT_TOKENS),
        .blob_size = skim_snapshot_load64(bytes + AT_BLOB_SIZE),
    };
    memcpy(parsed.fingerprint, bytes + AT_FINGERPRINT, sizeof parsed.fingerprint);
    const char *wrong = NULL;
    uint64_t total;
    if (!skim_page_size_valid(parsed.page_size))
        wrong = "page size";
    else if (parsed.layer_count == 0 || parsed.layer_count > SKIM_SNAPSHOT_LAYERS_MAX)
        wrong = "number of layers";
    else if (parsed.tokens > UINT32_MAX)
        wrong = "number of tokens";
    else if (!all_zero(bytes + AT_RESERVED, AT_TOKENS - AT_RESERVED) ||
             !all_zero(bytes + AT_RESERVED_TOO, AT_CHECKSUM - AT_RESERVED_TOO))
        wrong = "reserved field";
    else if (!skim_snapshot_size(&parsed, &total))
        wrong = "size of its blob";
    if (wrong)
        return skim_fail(error, SKIM_INVALID, "the snapshot's header has an impossible %s", wrong);
    *header = parsed;
    return SKIM_OK;
}

static bool in_range(uint32_t value)
{
    return value > 0 && value <= SKIM_SNAPSHOT_HEADS_MAX;
}

skim_status skim_snapshot_parse_layer(const uint8_t bytes[SKIM_SNAPSHOT_RECORD_SIZE],
                                      uint32_t index, skim_snapshot_layer *layer, skim_error *error)
{
    uint32_t type = load32(bytes + AT_TYPE);
    uint32_t flags = load32(bytes + AT_FLAGS);
    skim_snapshot_layer parsed = {
        .kv_heads = load32(bytes + AT_KV_HEADS),
        .key_dim = load32(bytes + AT_KEY_DIM),
        .value_dim = load32(bytes + AT_VALUE_DIM),
        .type = (skim_type)type,
        .has_centre = flags == FLAG_CENTRE,
    };
    const char *wrong = NULL;
    if (!in_range(parsed.kv_heads))
        wrong = "number of heads";
    else if (!in_range(parsed.key_dim) || !in_range(parsed.value_dim))
        wrong = "head dimension";
    else if (type < SKIM_F32 || type > SKIM_BF16)
        wrong = "type";
    else if (flags > FLAG_CENTRE)
        wrong = "flag";
    else if (!all_zero(bytes + AT_REST, SKIM_SNAPSHOT_RECORD_SIZE - AT_REST))
        wrong = "reserved field";
    if (wrong)
        return skim_fail(error, SKIM_INVALID,
                         "the snapshot's record of layer %u has an impossible %s", index, wrong);
    *layer = parsed;
    return SKIM_OK;
}

// --- sizes

bool skim_snapshot_size(const skim_snapshot_header *header, uint64_t *total)
{
    uint64_t head = SKIM_SNAPSHOT_HEADER_SIZE +
                    (uint64_t)header->layer_count * SKIM_SNAPSHOT_RECORD_SIZE +
                    2 * SKIM_SNAPSHOT_CHECKSUM_SIZE; // of the head and of the blob
    return skim_add(head, header->blob_size, total);
}

uint64_t skim_snapshot_centre_size(const skim_snapshot_layer *layer)
{
    return layer->has_centre ? (uint64_t)layer->kv_heads * layer->key_dim * sizeof(float) : 0;
}

bool skim_snapshot_add_layer(const skim_snapshot_header *header, const skim_snapshot_layer *layer,
                             uint64_t *total)
{
    uint64_t pages = header->tokens / header->page_size + (header->tokens % header->page_size != 0);
    // At most 16 + 17 + 6 + 2 bits.
    uint64_t page = (uint64_t)layer->kv_heads * (layer->key_dim + layer->value_dim) *
                    header->page_size * skim_type_size(layer->type);
    uint64_t rest = skim_snapshot_centre_size(layer) + SKIM_SNAPSHOT_CHECKSUM_SIZE;
    uint64_t bytes;
    return skim_add(*total, rest, total) && skim_multiply(pages, page, &bytes) &&
           skim_add(*total, bytes, total);
}

void skim_snapshot_swap(void *data, uint64_t size, size_t width)
{
    uint8_t *bytes = data;
    for (uint64_t i = 0; i < size; i += width) {
        for (size_t j = 0; j < width / 2; j++) {
            uint8_t kept = bytes[i + j];
            bytes[i + j] = bytes[i + width - 1 - j];
            bytes[i + width - 1 - j] = kept;
        }
    }
}
