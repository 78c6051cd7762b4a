// What config.json says, and what of it cannot be run.
#include "json_file.h"
#include "model.h"
#include "report.h"

#include <string.h>

static const char file[] = "config.json";

enum { DIM_MAX = 1 << 20, LAYERS_MAX = 4096, VOCAB_MAX = 1 << 24 };

static const struct family {
    const char *architecture;
    bool qkv_bias, qk_norm;
    bool bias_field; // has attention_bias
    bool out_bias;   // which is then the output's too
} families[] = {
    {"LlamaForCausalLM", false, false, true, true},
    {"MistralForCausalLM", false, false, false, false},
    {"Qwen2ForCausalLM", true, false, false, false},
    {"Qwen3ForCausalLM", false, true, true, true},
};

static int find_family(const json_t *json, const struct family **family)
{
    const char *name = json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    if (!name)
        return report_failure("%s names no architecture; give the folder of a Llama-family model",
                              file);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].architecture, name) == 0) {
            *family = &families[i];
            return EXIT_DONE;
        }
    return report_failure("the architecture %.64s is not supported; LlamaForCausalLM, "
                          "MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are",
                          name);
}

static int read_shape(const json_t *json, struct model_config *config)
{
    const struct {
        const char *name;
        uint32_t *value, most;
        bool optional;
    } fields[] = {
        {"hidden_size", &config->hidden, DIM_MAX, false},
        {"intermediate_size", &config->intermediate, DIM_MAX, false},
        {"num_hidden_layers", &config->layers, LAYERS_MAX, false},
        {"num_attention_heads", &config->q_heads, 65536, false},
        {"num_key_value_heads", &config->kv_heads, 65536, true},
        {"head_dim", &config->head_dim, 65536, true},
        {"vocab_size", &config->vocab, VOCAB_MAX, false},
        {"max_position_embeddings", &config->max_positions, 1u << 31, true},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (json_file_count(json, file, fields[i].name, 1, fields[i].most, fields[i].value))
            return EXIT_FAILED;
        if (!*fields[i].value && !fields[i].optional)
            return report_failure("%s has no %s", file, fields[i].name);
    }
    if (!config->kv_heads)
        config->kv_heads = config->q_heads;
    if (config->q_heads % config->kv_heads)
        return report_failure("%s: %u query heads are no multiple of %u kv heads", file,
                              config->q_heads, config->kv_heads);
    if (!config->head_dim && config->hidden % config->q_heads)
        return report_failure("%s has no head_dim, and hidden_size %u is no multiple of its %u "
                              "heads",
                              file, config->hidden, config->q_heads);
    if (!config->head_dim)
        config->head_dim = config->hidden / config->q_heads;
    if ((uint64_t)config->q_heads * config->head_dim > DIM_MAX)
        return report_failure("%s: %u heads of %u channels are more than %d", file, config->q_heads,
                              config->head_dim, DIM_MAX);
    if (config->head_dim % 2)
        return report_failure("%s: head_dim %u is odd, so it cannot be rotated", file,
                              config->head_dim);
    return EXIT_DONE;
}

static int read_llama3(const json_t *json, struct rope_config *rope)
{
    if (json_file_positive(json, file, "low_freq_factor", &rope->low_frequency_factor) ||
        json_file_positive(json, file, "high_freq_factor", &rope->high_frequency_factor) ||
        json_file_count(json, file, "original_max_position_embeddings", 1, 1u << 31,
                        &rope->original_positions))
        return EXIT_FAILED;
    if (!rope->low_frequency_factor || !rope->original_positions ||
        !(rope->high_frequency_factor > rope->low_frequency_factor))
        return report_failure("%s: the llama3 rotary scaling needs low_freq_factor below "
                              "high_freq_factor, and original_max_position_embeddings",
                              file);
    return EXIT_DONE;
}

// Something is there that cannot be read; null is nothing.
static bool is_other_than_object(const json_t *json)
{
    return json && !json_is_null(json) && !json_is_object(json);
}

// Rotary settings are in rope_scaling and rope_theta or, since transformers 5, in rope_parameters.
static int read_rope(const json_t *json, struct rope_config *rope)
{
    *rope = (struct rope_config){.theta = 10000};
    const json_t *scaling = json_object_get(json, "rope_scaling");
    const json_t *parameters = json_object_get(json, "rope_parameters");
    if (is_other_than_object(scaling) || is_other_than_object(parameters))
        return report_failure("%s: %s is no object", file,
                              is_other_than_object(scaling) ? "rope_scaling" : "rope_parameters");
    if (!json_is_object(scaling))
        scaling = parameters;
    if (json_file_positive(json, file, "rope_theta", &rope->theta) ||
        json_file_positive(parameters, file, "rope_theta", &rope->theta) ||
        json_file_positive(scaling, file, "factor", &rope->factor))
        return EXIT_FAILED;
    const char *name = json_string_value(json_object_get(scaling, "rope_type"));
    if (!name)
        name = json_string_value(json_object_get(scaling, "type"));
    if (!name && json_is_object(scaling) && scaling != parameters)
        return report_failure("%s: rope_scaling has no type", file);
    if (!name || strcmp(name, "default") == 0)
        return EXIT_DONE;
    if (strcmp(name, "linear") == 0)
        rope->kind = ROPE_LINEAR;
    else if (strcmp(name, "llama3") == 0)
        rope->kind = ROPE_LLAMA3;
    else
        return report_failure("the rotary scaling '%.32s' is not supported; default, linear and "
                              "llama3 are",
                              name);
    if (!rope->factor)
        return report_failure("%s: the rotary scaling '%s' has no factor", file, name);
    return rope->kind == ROPE_LLAMA3 ? read_llama3(scaling, rope) : EXIT_DONE;
}

static bool has_sliding_layer(const json_t *json)
{
    const json_t *types = json_object_get(json, "layer_types");
    size_t index;
    const json_t *type;
    json_array_foreach(types, index, type)
    {
        const char *name = json_string_value(type);
        if (!name || strcmp(name, "full_attention") != 0)
            return true;
    }
    return false;
}

// Whatever would change what is computed and is not implemented.
static int refuse_the_rest(const json_t *json, const struct family *family)
{
    bool use_window = strncmp(family->architecture, "Qwen", 4) != 0;
    if (json_file_flag(json, file, "use_sliding_window", &use_window))
        return EXIT_FAILED;
    const json_t *window = json_object_get(json, "sliding_window");
    bool windowed = use_window && window && !json_is_null(window) &&
                    strcmp(family->architecture, "LlamaForCausalLM") != 0;
    if (windowed || has_sliding_layer(json))
        return report_failure("the model attends through a sliding window, which is not supported; "
                              "use a model with full attention in every layer");
    const char *activation = json_string_value(json_object_get(json, "hidden_act"));
    if (activation && strcmp(activation, "silu") != 0)
        return report_failure("the activation '%.32s' is not supported; silu is", activation);
    const json_t *quantization = json_object_get(json, "quantization_config");
    if (quantization && !json_is_null(quantization))
        return report_failure("the weights are quantised, which is not supported; use the model in "
                              "f32, f16 or bf16");
    const json_t *partial = json_object_get(json, "partial_rotary_factor");
    if (!partial)
        partial =
            json_object_get(json_object_get(json, "rope_parameters"), "partial_rotary_factor");
    if (json_is_number(partial) && json_number_value(partial) != 1)
        return report_failure("rotary embedding of a part of each head is not supported");
    return EXIT_DONE;
}

// eos_token_id is one token or a list.
static int read_ends(const json_t *json, const char *name, struct model_config *config)
{
    const json_t *ends = json_object_get(json, "eos_token_id");
    size_t count = json_is_array(ends) ? json_array_size(ends) : ends && !json_is_null(ends);
    for (size_t i = 0; i < count; i++) {
        const json_t *end = json_is_array(ends) ? json_array_get(ends, i) : ends;
        if (!json_is_integer(end) || config->end_count == MODEL_ENDS)
            return report_failure("%s: eos_token_id is neither a token nor a list of at most %d",
                                  name, MODEL_ENDS);
        json_int_t token = json_integer_value(end);
        if (token >= 0 && token < config->vocab) // -1 and the like: never
            config->ends[config->end_count++] = (uint32_t)token;
    }
    return EXIT_DONE;
}

static int read_all(const json_t *json, struct model_config *config)
{
    const struct family *family = NULL;
    if (find_family(json, &family) || refuse_the_rest(json, family) || read_shape(json, config) ||
        read_rope(json, &config->rope))
        return EXIT_FAILED;
    config->architecture = family->architecture;
    config->qkv_bias = family->qkv_bias;
    config->qk_norm = family->qk_norm;
    config->norm_epsilon = 1e-6; // of all four families in transformers
    bool bias = false;
    if (json_file_positive(json, file, "rms_norm_eps", &config->norm_epsilon) ||
        json_file_flag(json, file, "tie_word_embeddings", &config->tied) ||
        json_file_flag(json, file, "mlp_bias", &config->mlp_bias) ||
        json_file_flag(json, file, "attention_bias", &bias))
        return EXIT_FAILED;
    if (family->bias_field && bias) {
        config->qkv_bias = true;
        config->out_bias = family->out_bias;
    }
    return read_ends(json, file, config);
}

int model_config_read(struct model_config *config, const char *folder)
{
    *config = (struct model_config){0};
    json_t *json = NULL;
    int failed = json_file_read(folder, file, &json);
    if (!failed && !json)
        failed = report_failure("'%s' has no config.json; give the folder of a Hugging Face model",
                                folder);
    if (!failed)
        failed = read_all(json, config);
    json_decref(json);
    if (failed)
        return failed;
    static const char more[] = "generation_config.json";
    failed = json_file_read(folder, more, &json);
    if (!failed && json)
        failed = read_ends(json, more, config);
    json_decref(json);
    return failed;
}
