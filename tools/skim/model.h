// A decoder of the Llama family in a Hugging Face folder: what config.json says of it, and its
// weights, mapped.
#ifndef SKIM_TOOL_MODEL_H
#define SKIM_TOOL_MODEL_H

#include "rope.h"
#include "safetensors.h"

enum { MODEL_ENDS = 16, MODEL_LAYER_MATRICES = 7 };

struct model_config {
    const char *architecture; // "LlamaForCausalLM"; static
    uint32_t hidden, intermediate, layers, q_heads, kv_heads, head_dim, vocab;
    uint32_t max_positions; // 0: not said
    double norm_epsilon;
    bool tied;     // the embedding is the output matrix too
    bool qkv_bias; // of the three projections
    bool out_bias; // of the attention's output
    bool mlp_bias; // of the three matrices of the feed-forward part
    bool qk_norm;  // RMS norm of each query and key head
    struct rope_config rope;
    uint32_t ends[MODEL_ENDS]; // tokens that end a text
    uint32_t end_count;
};

// y = W x + bias, W [rows][columns].
struct matrix {
    const void *data;
    skim_type type;
    uint32_t rows, columns;
    float *bias;    // NULL: none
    uint32_t index; // of model_matrix; of the embedding, none
};

struct model_layer {
    float *attention_norm, *mlp_norm; // [hidden]
    float *q_norm, *k_norm;           // [head_dim]; NULL: none
    struct matrix q, k, v, out, gate, up, down;
};

struct model {
    struct model_config config;
    struct safetensors *shards;
    char **shard_names;
    uint32_t shard_count;
    struct model_layer *layers;
    struct matrix embedding, output;
    float *norm;
    skim_type type;        // of the embedding
    uint64_t weight_bytes; // of all tensors in use
    float **vectors;       // norms and biases, converted
    uint32_t vector_count;
};

// Reads config.json and, for more tokens that end a text, generation_config.json. Returns an exit
// status; what was wrong was reported.
int model_config_read(struct model_config *config, const char *folder);

// Opens a folder: config, weights (model.safetensors, or the shards that
// model.safetensors.index.json names), and checks every tensor's shape. Returns an exit status.
int model_open(struct model *model, const char *folder);
void model_close(struct model *model);

// The matrices of a model's linear layers: every layer's, and the output's last.
uint32_t model_matrix_count(const struct model *model);
const struct matrix *model_matrix(const struct model *model, uint32_t index);

// Converts elements to f32.
void model_convert(skim_type type, const void *source, size_t count, float *target);

#endif
