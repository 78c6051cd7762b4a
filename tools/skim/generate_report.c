// What skim generate prints.
#include "generate.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void generate_print_token(const struct generate *generate, uint32_t token)
{
    if (generate->settings->json) {
        progress_show("tokens", generate->made.count, generate->settings->tokens);
        return;
    }
    if (generate->has_tokenizer) {
        struct token_piece piece = tokenizer_piece(&generate->tokenizer, token);
        fwrite(piece.text, 1, piece.length, stdout);
    } else {
        printf("%s%u", generate->made.count > 1 ? "," : "", token);
    }
    fflush(stdout);
}

// Appends text to a JSON string: what is not UTF-8 becomes U+FFFD.
static json_t *make_text(const char *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *valid = malloc(3 * length + 1);
    size_t size = 0;
    for (size_t i = 0; valid && i < length;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t step = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                                 (utf8proc_ssize_t)(length - i), &code);
        const char *source = step > 0 ? text + i : replacement;
        size_t count = step > 0 ? (size_t)step : 3;
        memcpy(valid + size, source, count);
        size += count;
        i += step > 0 ? (size_t)step : 1;
    }
    json_t *result = valid ? json_stringn(valid, size) : NULL;
    free(valid);
    return result;
}

static json_t *text_json(const struct generate *generate)
{
    if (!generate->has_tokenizer)
        return json_null();
    size_t length = 0;
    for (size_t i = 0; i < generate->made.count; i++)
        length += tokenizer_piece(&generate->tokenizer, generate->made.tokens[i]).length;
    char *text = malloc(length + 1);
    length = 0;
    for (size_t i = 0; text && i < generate->made.count; i++) {
        struct token_piece piece = tokenizer_piece(&generate->tokenizer, generate->made.tokens[i]);
        memcpy(text + length, piece.text, piece.length);
        length += piece.length;
    }
    json_t *result = text ? make_text(text, length) : NULL;
    free(text);
    return result;
}

static json_t *tokens_json(const struct token_list *list)
{
    json_t *result = json_array();
    for (size_t i = 0; i < list->count; i++)
        if (json_array_append_new(result, json_integer(list->tokens[i])) != 0) {
            json_decref(result);
            return NULL;
        }
    return result;
}

static const char *const ends[] = {"tokens", "end", "interrupted"};

// The number of tokens that decode steps were run for: the first comes from the prompt's logits.
static size_t decoded(const struct generate *generate)
{
    uint64_t run = generate->forward.length;
    return run > generate->prompt.count ? (size_t)(run - generate->prompt.count) : 0;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

// What each layer did in decode.
static json_t *layers_json(const struct generate *generate)
{
    const struct attention *attention = &generate->forward.attention;
    json_t *result = json_array();
    for (uint32_t i = 0; i < attention->layers && decoded(generate); i++) {
        const struct attention_counts *counts = &attention->layer_counts[i].counts;
        json_array_append_new(result,
                              json_pack("{s:I, s:b, s:o, s:I, s:I, s:I, s:I}", "layer",
                                        (json_int_t)i, "sparse", counts->sparse, "attention_ms",
                                        report_real(1e3 * attention_layer_median(attention, i)),
                                        "pages_read", (json_int_t)counts->pages_read, "pages_total",
                                        (json_int_t)counts->pages_total, "bytes_read",
                                        (json_int_t)counts->bytes_read, "bytes_dense",
                                        (json_int_t)counts->bytes_dense));
    }
    return result;
}

// "host", or a device: "clblast:0".
static report_text linear_place(const struct generate *generate)
{
    const struct blas *blas = generate->forward.linear.blas;
    return blas ? report_format("%s:%u", blas->driver->name, blas->device) : report_format("host");
}

static json_t *linear_device(const struct generate *generate)
{
    const struct blas *blas = generate->forward.linear.blas;
    return blas ? make_text(blas->device_name, strlen(blas->device_name)) : json_null();
}

static json_t *make_json(const struct generate *generate)
{
    const struct attention_counts *decode = &generate->decode_counts;
    json_t *result = json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:s, s:b, s:o, s:I, s:o, s:o, s:o, s:s}", "device",
        generate->session.info.selector, "linear", linear_place(generate).text, "linear_device",
        linear_device(generate), "model",
        make_text(generate->settings->model, strlen(generate->settings->model)), "architecture",
        generate->model.config.architecture, "kv_type",
        skim_type_name(generate->forward.attention.type), "sparse", decode->sparse, "layers",
        layers_json(generate), "prompt_tokens", (json_int_t)generate->prompt.count, "prompt_ids",
        tokens_json(&generate->prompt), "tokens", tokens_json(&generate->made), "text",
        text_json(generate), "stopped", ends[generate->end]);
    const struct {
        const char *key;
        double value;
    } reals[] = {
        {"load_s", generate->load_s},
        {"prefill_s", generate->prefill_s},
        {"prefill_tokens_per_s", share((double)generate->prompt_done, generate->prefill_s)},
        {"prefill_attention_share", share(generate->prefill_counts.seconds, generate->prefill_s)},
        {"decode_s", generate->decode_s},
        {"decode_tokens_per_s", share((double)decoded(generate), generate->decode_s)},
        {"decode_attention_share", share(decode->seconds, generate->decode_s)},
    };
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"decode_steps", decoded(generate)},  {"pages_read", decode->pages_read},
        {"pages_total", decode->pages_total}, {"bytes_read", decode->bytes_read},
        {"bytes_dense", decode->bytes_dense}, {"weight_bytes", generate->model.weight_bytes},
    };
    bool complete = result != NULL;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        complete &= json_object_set_new(result, reals[i].key, report_real(reals[i].value)) == 0;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        complete &= json_object_set_new(result, counts[i].key,
                                        json_integer((json_int_t)counts[i].value)) == 0;
    if (complete)
        return result;
    json_decref(result);
    return NULL;
}

static void print_summary(const struct generate *generate)
{
    const struct attention_counts *decode = &generate->decode_counts;
    size_t steps = decoded(generate);
    const struct blas *blas = generate->forward.linear.blas;
    if (blas)
        fprintf(stderr, "Linear layers: %s, %s.\n", linear_place(generate).text, blas->device_name);
    bool whole = generate->prompt_done == generate->prompt.count;
    fprintf(stderr, "Prompt: %s%zu tokens, %.4g tokens/s; attention took %.0f %% of the time.\n",
            whole ? "" : report_format("%llu of ", (unsigned long long)generate->prompt_done).text,
            generate->prompt.count, share((double)generate->prompt_done, generate->prefill_s),
            100 * share(generate->prefill_counts.seconds, generate->prefill_s));
    if (steps == 0)
        return;
    fprintf(stderr, "Decode: %zu steps, %.4g tokens/s; attention took %.0f %% of the time.\n",
            steps, share((double)steps, generate->decode_s),
            100 * share(decode->seconds, generate->decode_s));
    fprintf(stderr, "Attention read %s a token in place of %s (%.3g %% of the pages%s).\n",
            report_bytes((double)decode->bytes_read / (double)steps).text,
            report_bytes((double)decode->bytes_dense / (double)steps).text,
            100 * share((double)decode->pages_read, (double)decode->pages_total),
            decode->sparse ? "" : "; nothing ran sparse");
}

int generate_write_trace(struct generate *generate)
{
    const char *folder = generate->settings->model;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    size_t first = length;
    while (first > 0 && folder[first - 1] != '/')
        first--;
    json_t *model = make_text(folder + first, length - first);
    if (!model)
        return report_failure("out of memory for the trace; free some and try again");
    char note[96];
    snprintf(note, sizeof note, "skim generate %s: %zu tokens of a prompt and %zu more",
             skim_version(), generate->prompt.count, decoded(generate));
    int failed = recorder_write(&generate->recorder, &generate->trace_writer,
                                json_string_value(model), note);
    json_decref(model);
    return failed;
}

int generate_report(const struct generate *generate)
{
    progress_clear();
    if (generate->settings->json)
        return report_json(make_json(generate));
    if (generate->made.count)
        putchar('\n');
    fflush(stdout);
    print_summary(generate);
    return EXIT_DONE;
}
