// libFuzzer target: the weights of skim generate (tools/skim/model_weights.c, safetensors.c): one
// file, or an index and what it names. Whatever they hold is refused with a sentence, or is a model
// whose matrices lie inside the files.
//
// An input begins with a byte of flags: the lowest two bits choose a configuration, and bit 2 tells
// that there is an index. What follows is model.safetensors, or the index, a zero byte, two bytes
// with the length of a.safetensors, that file, and b.safetensors.
#include "tools/skim/model.h"
#include "tests/fuzz/folder.h"
#include "tools/skim/report.h"

#include <stdlib.h>
#include <string.h>

enum { SHARDED = 4, LENGTH = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);

#define SHAPE                                                                                      \
    "\"hidden_size\":4,\"intermediate_size\":2,\"num_hidden_layers\":1,\"num_attention_heads\":2," \
    "\"num_key_value_heads\":1,\"head_dim\":2,\"vocab_size\":3"

static const char *const configs[] = {
    "{\"architectures\":[\"LlamaForCausalLM\"],\"tie_word_embeddings\":true," SHAPE "}",
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":true,\"mlp_bias\":true," SHAPE
    "}",
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"tie_word_embeddings\":true," SHAPE "}",
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"tie_word_embeddings\":true," SHAPE "}",
};

// --- the test

static void read_bytes(const void *data, size_t size)
{
    static volatile uint32_t sink;
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        sink = sink + bytes[i];
}

static void read_matrix(const struct matrix *matrix)
{
    read_bytes(matrix->data, (size_t)matrix->rows * matrix->columns * skim_type_size(matrix->type));
    if (matrix->bias)
        read_bytes(matrix->bias, matrix->rows * sizeof *matrix->bias);
}

static void read_model(const struct model *model)
{
    const struct model_config *config = &model->config;
    read_matrix(&model->embedding);
    read_matrix(&model->output);
    read_bytes(model->norm, config->hidden * sizeof(float));
    for (uint32_t i = 0; i < config->layers; i++) {
        const struct model_layer *layer = &model->layers[i];
        const struct matrix *matrices[] = {&layer->q,    &layer->k,  &layer->v,   &layer->out,
                                           &layer->gate, &layer->up, &layer->down};
        for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++)
            read_matrix(matrices[m]);
        read_bytes(layer->attention_norm, config->hidden * sizeof(float));
        read_bytes(layer->mlp_norm, config->hidden * sizeof(float));
        if (config->qk_norm) {
            read_bytes(layer->q_norm, config->head_dim * sizeof(float));
            read_bytes(layer->k_norm, config->head_dim * sizeof(float));
        }
    }
}

static void put_shards(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t index = end ? (size_t)(end - data) : size;
    folder_put("model.safetensors.index.json", data, index);
    data += index + (end != NULL);
    size -= index + (end != NULL);
    size_t first = size >= 2 ? (size_t)data[0] | (size_t)data[1] << 8 : 0;
    if (size < 2 || first > size - 2)
        first = 0, size = 2;
    folder_put("a.safetensors", first ? data + 2 : NULL, first);
    folder_put("b.safetensors", size - 2 - first ? data + 2 + first : NULL, size - 2 - first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *config = configs[*data % 4];
    folder_put("config.json", config, strlen(config));
    folder_put("model.safetensors", *data & SHARDED ? NULL : data + 1, size - 1);
    if (*data & SHARDED)
        put_shards(data + 1, size - 1);
    else
        folder_put("model.safetensors.index.json", NULL, 0);
    struct model model;
    if (model_open(&model, folder_path()) == EXIT_DONE) {
        read_model(&model);
        model_close(&model);
    }
    return 0;
}

// --- mutation

static uint64_t load(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = LENGTH; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static void store(uint8_t *bytes, uint64_t value)
{
    for (int i = 0; i < LENGTH; i++, value >>= 8)
        bytes[i] = (uint8_t)value;
}

// Three in four inputs of one file change in the header only, and its length is put right: what is
// behind them is reached.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed)
{
    enum { START = 1 + LENGTH };
    bool sharded = size == 0 || *data & SHARDED;
    uint64_t header = size > START ? load(data + 1) : 0;
    if (seed % 4 == 0 || sharded || header == 0 || header > size - START)
        return LLVMFuzzerMutate(data, size, capacity);
    size_t rest = size - START - (size_t)header;
    uint8_t *kept = malloc(rest + 1);
    if (!kept)
        abort();
    memcpy(kept, data + START + header, rest);
    header = LLVMFuzzerMutate(data + START, (size_t)header, capacity - START - rest);
    store(data + 1, header);
    memcpy(data + START + header, kept, rest);
    free(kept);
    return START + (size_t)header + rest;
}
