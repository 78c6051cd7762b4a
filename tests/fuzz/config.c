// libFuzzer target: what skim generate reads of config.json and generation_config.json
// (tools/skim/model_config.c, and json_file.c under it). Whatever they hold is refused with a
// sentence, or describes a model whose sizes agree and whose positions can be computed.
//
// An input is config.json and, after a zero byte, generation_config.json.
#include "tests/fuzz/folder.h"
#include "tools/skim/model.h"
#include "tools/skim/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check(const struct model_config *config)
{
    require(config->architecture && config->layers && config->vocab);
    require(config->hidden && config->intermediate);
    require(config->kv_heads && config->q_heads % config->kv_heads == 0);
    require(config->head_dim && config->head_dim % 2 == 0);
    require((uint64_t)config->q_heads * config->head_dim <= 1u << 20);
    require(isfinite(config->norm_epsilon) && config->norm_epsilon > 0);
    require(config->end_count <= MODEL_ENDS);
    for (uint32_t i = 0; i < config->end_count; i++)
        require(config->ends[i] < config->vocab);
    float *frequencies = malloc((size_t)config->head_dim / 2 * sizeof *frequencies);
    require(frequencies != NULL);
    rope_frequencies(&config->rope, config->head_dim, frequencies);
    for (uint32_t i = 0; i < config->head_dim / 2; i++)
        require(!isnan(frequencies[i]));
    free(frequencies);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t first = end ? (size_t)(end - data) : size;
    folder_put("config.json", data, first);
    folder_put("generation_config.json", end ? end + 1 : NULL, size - first - (end != NULL));
    struct model_config config;
    if (model_config_read(&config, folder_path()) == EXIT_DONE)
        check(&config);
    return 0;
}
