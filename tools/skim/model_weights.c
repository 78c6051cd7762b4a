// The weights of a folder: one file or several, mapped; every tensor found and its shape checked.
#include "halves.h"
#include "json_file.h"
#include "model.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct safetensors_words words = {"model's weights", "copy the model again"};
static const char index_name[] = "model.safetensors.index.json";

static int out_of_memory(void)
{
    return report_failure("out of memory for the model; free some and try again");
}

static int open_shard(struct model *model, const char *folder, const char *name)
{
    for (uint32_t i = 0; i < model->shard_count; i++)
        if (strcmp(model->shard_names[i], name) == 0)
            return EXIT_DONE;
    if (strchr(name, '/') || !*name || *name == '.')
        return report_failure("%s names the file '%.64s', which is not in the model's folder",
                              index_name, name);
    char *path = json_file_path(folder, name);
    char *copy = strdup(name);
    if (!path || !copy) {
        free(path);
        free(copy);
        return out_of_memory();
    }
    model->shard_names[model->shard_count] = copy;
    int failed = safetensors_open(&model->shards[model->shard_count++], path, &words);
    free(path);
    return failed;
}

static int make_room(struct model *model, size_t shards)
{
    model->shards = calloc(shards, sizeof *model->shards);
    model->shard_names = calloc(shards, sizeof *model->shard_names);
    return model->shards && model->shard_names ? EXIT_DONE : out_of_memory();
}

// Opens every file that the index names.
static int open_index(struct model *model, const char *folder, const json_t *index)
{
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return report_failure("%s has no weight_map; copy the model again", index_name);
    int failed = make_room(model, json_object_size(map));
    const char *name;
    json_t *shard;
    json_object_foreach(map, name, shard)
    {
        if (!failed && !json_is_string(shard))
            failed = report_failure("%s names no file for %.64s; copy the model again", index_name,
                                    name);
        if (!failed)
            failed = open_shard(model, folder, json_string_value(shard));
    }
    return failed;
}

static int open_shards(struct model *model, const char *folder)
{
    char *single = json_file_path(folder, "model.safetensors");
    if (!single)
        return out_of_memory();
    bool alone = access(single, F_OK) == 0;
    free(single);
    if (alone) {
        int failed = make_room(model, 1);
        return failed ? failed : open_shard(model, folder, "model.safetensors");
    }
    json_t *index = NULL;
    int failed = json_file_read(folder, index_name, &index);
    if (!failed && !index)
        failed = report_failure("'%s' has neither model.safetensors nor %s; give the folder of a "
                                "Hugging Face model with safetensors",
                                folder, index_name);
    if (!failed)
        failed = open_index(model, folder, index);
    json_decref(index);
    return failed;
}

// Finds a tensor of one or two dimensions (columns 0: one).
static int find(struct model *model, const char *name, uint32_t rows, uint32_t columns,
                const struct safetensors_tensor **found)
{
    const struct safetensors_tensor *tensor = NULL;
    for (uint32_t i = 0; i < model->shard_count && !tensor; i++)
        tensor = safetensors_find(&model->shards[i], name);
    if (!tensor)
        return report_failure("the model has no tensor %s; copy it again, or correct config.json",
                              name);
    if (tensor->type == SKIM_TYPE_NONE)
        return report_failure("tensor %s has the type %s; F32, F16 and BF16 are supported", name,
                              tensor->dtype);
    uint32_t rank = columns ? 2 : 1;
    if (tensor->rank != rank || tensor->shape[0] != rows ||
        (columns && tensor->shape[1] != columns))
        return report_failure("tensor %s has %s [%llu, %llu], but config.json asks for [%u%s]",
                              name, report_count(tensor->rank, "dimension").text,
                              (unsigned long long)tensor->shape[0],
                              (unsigned long long)tensor->shape[1], rows,
                              columns ? report_format(", %u", columns).text : "");
    model->weight_bytes += tensor->bytes;
    *found = tensor;
    return EXIT_DONE;
}

void model_convert(skim_type type, const void *source, size_t count, float *target)
{
    if (type == SKIM_F32)
        memcpy(target, source, count * sizeof *target);
    else
        halves_to_f32(type, source, count, target);
}

static int find_matrix(struct model *model, const char *name, uint32_t rows, uint32_t columns,
                       struct matrix *matrix)
{
    const struct safetensors_tensor *tensor = NULL;
    int failed = find(model, name, rows, columns, &tensor);
    if (!failed)
        *matrix = (struct matrix){
            .data = tensor->data, .type = tensor->type, .rows = rows, .columns = columns};
    return failed;
}

// Vectors are small: converted once.
static int find_vector(struct model *model, const char *name, uint32_t size, float **vector)
{
    const struct safetensors_tensor *tensor = NULL;
    int failed = find(model, name, size, 0, &tensor);
    if (failed)
        return failed;
    *vector = malloc(size * sizeof **vector);
    if (!*vector)
        return out_of_memory();
    model->vectors[model->vector_count++] = *vector;
    model_convert(tensor->type, tensor->data, size, *vector);
    return EXIT_DONE;
}

static int find_layer(struct model *model, uint32_t index)
{
    const struct model_config *config = &model->config;
    struct model_layer *layer = &model->layers[index];
    uint32_t queries = config->q_heads * config->head_dim;
    uint32_t keys = config->kv_heads * config->head_dim;
    const struct {
        const char *name;
        uint32_t rows, columns;
        struct matrix *matrix;
        bool bias;
    } matrices[] = {
        {"self_attn.q_proj", queries, config->hidden, &layer->q, config->qkv_bias},
        {"self_attn.k_proj", keys, config->hidden, &layer->k, config->qkv_bias},
        {"self_attn.v_proj", keys, config->hidden, &layer->v, config->qkv_bias},
        {"self_attn.o_proj", config->hidden, queries, &layer->out, config->out_bias},
        {"mlp.gate_proj", config->intermediate, config->hidden, &layer->gate, config->mlp_bias},
        {"mlp.up_proj", config->intermediate, config->hidden, &layer->up, config->mlp_bias},
        {"mlp.down_proj", config->hidden, config->intermediate, &layer->down, config->mlp_bias},
    };
    const struct {
        const char *name;
        uint32_t size;
        float **vector;
        bool wanted;
    } norms[] = {
        {"input_layernorm", config->hidden, &layer->attention_norm, true},
        {"post_attention_layernorm", config->hidden, &layer->mlp_norm, true},
        {"self_attn.q_norm", config->head_dim, &layer->q_norm, config->qk_norm},
        {"self_attn.k_norm", config->head_dim, &layer->k_norm, config->qk_norm},
    };
    char name[96];
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s.weight", index, matrices[i].name);
        if (find_matrix(model, name, matrices[i].rows, matrices[i].columns, matrices[i].matrix))
            return EXIT_FAILED;
        matrices[i].matrix->index = index * MODEL_LAYER_MATRICES + (uint32_t)i;
        snprintf(name, sizeof name, "model.layers.%u.%s.bias", index, matrices[i].name);
        if (matrices[i].bias &&
            find_vector(model, name, matrices[i].rows, &matrices[i].matrix->bias))
            return EXIT_FAILED;
    }
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        snprintf(name, sizeof name, "model.layers.%u.%s.weight", index, norms[i].name);
        if (norms[i].wanted && find_vector(model, name, norms[i].size, norms[i].vector))
            return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int find_all(struct model *model)
{
    const struct model_config *config = &model->config;
    model->layers = calloc(config->layers, sizeof *model->layers);
    model->vectors = calloc((size_t)config->layers * 11 + 1, sizeof *model->vectors);
    if (!model->layers || !model->vectors)
        return out_of_memory();
    if (find_matrix(model, "model.embed_tokens.weight", config->vocab, config->hidden,
                    &model->embedding) ||
        find_vector(model, "model.norm.weight", config->hidden, &model->norm))
        return EXIT_FAILED;
    model->output = model->embedding;
    model->type = model->embedding.type;
    if (!config->tied &&
        find_matrix(model, "lm_head.weight", config->vocab, config->hidden, &model->output))
        return EXIT_FAILED;
    model->output.index = model_matrix_count(model) - 1;
    for (uint32_t i = 0; i < config->layers; i++)
        if (find_layer(model, i))
            return EXIT_FAILED;
    return EXIT_DONE;
}

uint32_t model_matrix_count(const struct model *model)
{
    return model->config.layers * MODEL_LAYER_MATRICES + 1;
}

const struct matrix *model_matrix(const struct model *model, uint32_t index)
{
    if (index + 1 == model_matrix_count(model))
        return &model->output;
    const struct model_layer *layer = &model->layers[index / MODEL_LAYER_MATRICES];
    const struct matrix *const matrices[MODEL_LAYER_MATRICES] = {
        &layer->q,    &layer->k,  &layer->v,   &layer->out,
        &layer->gate, &layer->up, &layer->down}; // as find_layer numbers them
    return matrices[index % MODEL_LAYER_MATRICES];
}

// Whether a tensor belongs to a model of this kind though it is not used.
static bool is_known_surplus(const struct model *model, const char *name)
{
    size_t length = strlen(name);
    static const char frequencies[] = "rotary_emb.inv_freq"; // of old files; computed here
    size_t ending = sizeof frequencies - 1;
    return (length > ending && strcmp(name + length - ending, frequencies) == 0) ||
           (model->config.tied && strcmp(name, "lm_head.weight") == 0);
}

// A tensor that nothing asked for may mean that the model is another than config.json says.
static void warn_of_surplus(const struct model *model)
{
    uint64_t used = (uint64_t)model->vector_count + model_matrix_count(model) + !model->config.tied;
    uint64_t there = 0;
    for (uint32_t s = 0; s < model->shard_count; s++)
        for (size_t i = 0; i < model->shards[s].count; i++)
            there += !is_known_surplus(model, model->shards[s].tensors[i].name);
    if (there > used)
        report_warning("the model's files hold %s that a %s as in config.json does not have; "
                       "ignored",
                       report_count((uint32_t)(there - used), "tensor").text,
                       model->config.architecture);
}

int model_open(struct model *model, const char *folder)
{
    *model = (struct model){0};
    int failed = model_config_read(&model->config, folder);
    if (!failed)
        failed = open_shards(model, folder);
    if (!failed)
        failed = find_all(model);
    if (!failed)
        warn_of_surplus(model);
    if (failed)
        model_close(model);
    return failed;
}

void model_close(struct model *model)
{
    for (uint32_t i = 0; i < model->shard_count; i++) {
        safetensors_close(&model->shards[i]);
        free(model->shard_names[i]);
    }
    for (uint32_t i = 0; i < model->vector_count; i++)
        free(model->vectors[i]);
    free(model->shards);
    free(model->shard_names);
    free(model->vectors);
    free(model->layers);
    *model = (struct model){0};
}
