// Reading tokenizer.json.
#include "report.h"
#include "tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file[] = "tokenizer.json";

// Of GPT-2; what a ByteLevel pre-tokenizer with use_regex cuts at.
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// What is being read. A tokenizer that is sound but of another kind is no failure: `reason` is then
// filled.
struct loader {
    struct tokenizer *tokenizer;
    char *reason;
    bool byte_level; // seen in the pre-tokenizer
};

static int out_of_memory(void)
{
    return report_failure("out of memory for the tokenizer; free some and try again");
}

static int damaged(const char *what)
{
    return report_failure("%s: %s; copy the model again, or pass --token-ids", file, what);
}

static void other_kind(struct loader *loader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void other_kind(struct loader *loader, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!*loader->reason)
        vsnprintf(loader->reason, 256, format, arguments);
    va_end(arguments);
}

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "(none)";
}

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static int read_id(const struct tokenizer *tokenizer, const json_t *value, uint32_t *id)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0)
        return damaged("a token's number is no whole number");
    if (number >= tokenizer->vocab)
        return report_failure("%s has a token %lld, the model only %u; copy the model again", file,
                              (long long)number, tokenizer->vocab);
    *id = (uint32_t)number;
    return EXIT_DONE;
}

// The byte for which a character of a byte-level vocabulary stands, by the character's code; -1:
// none.
static void invert_characters(int16_t bytes[512])
{
    for (size_t i = 0; i < 512; i++)
        bytes[i] = -1;
    for (int b = 0; b < 256; b++) {
        char text[2];
        size_t length = tokenizer_byte_character((uint8_t)b, text);
        uint32_t lead = (uint8_t)text[0];
        bytes[length == 1 ? lead : (lead & 0x1f) << 6 | ((uint8_t)text[1] & 0x3f)] = (int16_t)b;
    }
}

// The bytes that a token of a byte-level vocabulary stands for; a text with a character that stands
// for no byte stands for itself.
static size_t decode(const char *text, size_t length, const int16_t bytes[512], char *decoded)
{
    size_t size = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code = (uint8_t)text[i++];
        if (code >= 0xc0 && code < 0xe0) // JSON text is UTF-8, so the second byte is there
            code = (code & 0x1f) << 6 | ((uint8_t)text[i++] & 0x3f);
        else if (code >= 0x80)
            code = 512;
        if (code >= 512 || bytes[code] < 0) {
            memcpy(decoded, text, length);
            return length;
        }
        decoded[size++] = (char)bytes[code];
    }
    return size;
}

static int read_vocabulary(struct loader *loader, json_t *vocabulary)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (!json_is_object(vocabulary))
        return damaged("model.vocab is no object");
    tokenizer->vocabulary = vocabulary;
    const char *key;
    json_t *value;
    size_t room = 1;
    json_object_foreach(vocabulary, key, value) room += strlen(key);
    tokenizer->decoded = malloc(room);
    tokenizer->pieces = calloc(tokenizer->vocab, sizeof *tokenizer->pieces);
    if (!tokenizer->decoded || !tokenizer->pieces)
        return out_of_memory();
    int16_t bytes[512];
    invert_characters(bytes);
    char *decoded = tokenizer->decoded;
    json_object_foreach(vocabulary, key, value)
    {
        uint32_t id = 0;
        int failed = read_id(tokenizer, value, &id);
        if (failed)
            return failed;
        size_t length = decode(key, strlen(key), bytes, decoded);
        tokenizer->pieces[id] = (struct token_piece){decoded, length, false};
        decoded += length;
    }
    for (int b = 0; b < 256; b++) {
        char text[2];
        size_t length = tokenizer_byte_character((uint8_t)b, text);
        const json_t *id = json_object_getn(vocabulary, text, length);
        if (!id)
            other_kind(loader, "its vocabulary has no token for the byte %d", b);
        tokenizer->byte_tokens[b] = (uint32_t)json_integer_value(id);
    }
    return EXIT_DONE;
}

// The two sides of a merge: "a b", or ["a", "b"].
static bool read_merge(const json_t *merge, const char *sides[2], size_t lengths[2])
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        for (size_t i = 0; i < 2; i++) {
            sides[i] = json_string_value(json_array_get(merge, i));
            lengths[i] = json_string_length(json_array_get(merge, i));
        }
        return sides[0] && sides[1];
    }
    const char *text = json_string_value(merge);
    const char *space = text ? strchr(text, ' ') : NULL;
    if (!space)
        return false;
    sides[0] = text;
    lengths[0] = (size_t)(space - text);
    sides[1] = space + 1;
    lengths[1] = strlen(space + 1);
    return true;
}

static int add_merge(struct tokenizer *tokenizer, const json_t *merge, uint32_t rank)
{
    const char *sides[2];
    size_t lengths[2];
    if (!read_merge(merge, sides, lengths))
        return damaged("a merge is no pair of tokens");
    char *both = malloc(lengths[0] + lengths[1] + 1);
    if (!both)
        return out_of_memory();
    memcpy(both, sides[0], lengths[0]);
    memcpy(both + lengths[0], sides[1], lengths[1]);
    const json_t *left = json_object_getn(tokenizer->vocabulary, sides[0], lengths[0]);
    const json_t *right = json_object_getn(tokenizer->vocabulary, sides[1], lengths[1]);
    const json_t *merged = json_object_getn(tokenizer->vocabulary, both, lengths[0] + lengths[1]);
    free(both);
    if (!left || !right || !merged)
        return damaged("a merge names a token that is not in the vocabulary");
    bpe_add(&tokenizer->bpe, (uint32_t)json_integer_value(left),
            (uint32_t)json_integer_value(right), rank, (uint32_t)json_integer_value(merged));
    return EXIT_DONE;
}

static int read_model(struct loader *loader, const json_t *model)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (strcmp(type_of(model), "BPE") != 0) {
        other_kind(loader, "its model is %.32s, not BPE", type_of(model));
        return EXIT_DONE;
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++)
        if (json_string_length(json_object_get(model, affixes[i])))
            other_kind(loader, "its BPE has a %s", affixes[i]);
    tokenizer->ignore_merges = is_true(model, "ignore_merges");
    int failed = read_vocabulary(loader, json_object_get(model, "vocab"));
    const json_t *merges = json_object_get(model, "merges");
    if (!failed && !json_is_array(merges))
        failed = damaged("model.merges is no list");
    if (!failed && !*loader->reason && !bpe_open(&tokenizer->bpe, json_array_size(merges)))
        failed = out_of_memory();
    for (size_t i = 0; i < json_array_size(merges) && !failed && !*loader->reason; i++)
        failed = add_merge(tokenizer, json_array_get(merges, i), (uint32_t)i);
    return failed;
}

static int add_split(struct loader *loader, const char *pattern, bool literal)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    if (tokenizer->split_count == TOKENIZER_SPLITS) {
        other_kind(loader, "it cuts words in more than %d ways", TOKENIZER_SPLITS);
        return EXIT_DONE;
    }
    int error = 0;
    size_t place = 0;
    uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &place, NULL);
    if (!code) {
        PCRE2_UCHAR text[120] = "";
        pcre2_get_error_message(error, text, sizeof text);
        other_kind(loader, "its pattern '%.80s' cannot be used: %s", pattern, (char *)text);
        return EXIT_DONE;
    }
    struct split *split = &tokenizer->splits[tokenizer->split_count++];
    split->pattern = code;
    split->match = pcre2_match_data_create_from_pattern(code, NULL);
    return split->match ? EXIT_DONE : out_of_memory();
}

static int read_split(struct loader *loader, const json_t *step)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *literal = json_string_value(json_object_get(pattern, "String"));
    const char *behaviour = json_string_value(json_object_get(step, "behavior"));
    if (!regex && !literal)
        return damaged("a Split has no pattern");
    if (!behaviour || strcmp(behaviour, "Isolated") != 0) {
        other_kind(loader, "its Split is %.32s, not Isolated", behaviour ? behaviour : "(none)");
        return EXIT_DONE;
    }
    return add_split(loader, regex ? regex : literal, !regex);
}

static int read_pre_tokenizer(struct loader *loader, const json_t *step)
{
    const char *type = type_of(step);
    if (strcmp(type, "Split") == 0)
        return read_split(loader, step);
    if (strcmp(type, "Digits") == 0)
        return add_split(loader, is_true(step, "individual_digits") ? "\\p{N}" : "\\p{N}+", false);
    if (strcmp(type, "ByteLevel") == 0) {
        loader->byte_level = true;
        if (is_true(step, "add_prefix_space"))
            other_kind(loader, "it adds a space before words");
        const json_t *regex = json_object_get(step, "use_regex");
        return regex && !json_is_true(regex) ? EXIT_DONE : add_split(loader, gpt2_pattern, false);
    }
    other_kind(loader, "its pre-tokenizer is %.32s, not ByteLevel", type);
    return EXIT_DONE;
}

// A field is one step, or a Sequence of them.
static int read_steps(struct loader *loader, const json_t *field, const char *list,
                      int (*read)(struct loader *, const json_t *))
{
    if (!field || json_is_null(field))
        return EXIT_DONE;
    if (strcmp(type_of(field), "Sequence") != 0)
        return read(loader, field);
    const json_t *steps = json_object_get(field, list);
    if (!json_is_array(steps))
        return damaged("a Sequence has no steps");
    int failed = EXIT_DONE;
    for (size_t i = 0; i < json_array_size(steps) && !failed; i++)
        failed = read(loader, json_array_get(steps, i));
    return failed;
}

static int read_normaliser(struct loader *loader, const json_t *step)
{
    if (strcmp(type_of(step), "NFC") == 0)
        loader->tokenizer->compose = true;
    else
        other_kind(loader, "its normalizer is %.32s, not NFC", type_of(step));
    return EXIT_DONE;
}

// A TemplateProcessing frames the prompt with special tokens, such as the one that begins a text.
static int read_template(struct loader *loader, const json_t *step)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    const json_t *single = json_object_get(step, "single");
    const json_t *table = json_object_get(step, "special_tokens");
    bool before = true;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence")) {
            before = false;
            continue;
        }
        const char *name =
            json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        const json_t *ids = name ? json_object_get(json_object_get(table, name), "ids") : NULL;
        if (!json_is_array(ids))
            return damaged("its template names a token that it does not define");
        uint32_t *frame = before ? tokenizer->prefix : tokenizer->suffix;
        uint32_t *count = before ? &tokenizer->prefix_count : &tokenizer->suffix_count;
        for (size_t t = 0; t < json_array_size(ids); t++) {
            if (*count == TOKENIZER_FRAME)
                return damaged("its template has too many tokens");
            int failed = read_id(tokenizer, json_array_get(ids, t), &frame[(*count)++]);
            if (failed)
                return failed;
        }
    }
    return EXIT_DONE;
}

static int read_post_processor(struct loader *loader, const json_t *step)
{
    const char *type = type_of(step);
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(loader, step);
    if (strcmp(type, "ByteLevel") != 0) // which only moves offsets
        other_kind(loader, "its post-processor is %.32s", type);
    return EXIT_DONE;
}

static int read_added(struct loader *loader, const json_t *list)
{
    struct tokenizer *tokenizer = loader->tokenizer;
    tokenizer->added = calloc(json_array_size(list) + 1, sizeof *tokenizer->added);
    if (!tokenizer->added)
        return out_of_memory();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *text = json_string_value(json_object_get(entry, "content"));
        uint32_t id = 0;
        if (!text || !*text)
            return damaged("an added token has no content");
        // Tokenizers may have more tokens than the model, for example for padding.
        if (json_integer_value(json_object_get(entry, "id")) >= tokenizer->vocab)
            continue;
        int failed = read_id(tokenizer, json_object_get(entry, "id"), &id);
        if (failed)
            return failed;
        static const char *const conditions[] = {"single_word", "lstrip", "rstrip"};
        for (size_t c = 0; c < sizeof conditions / sizeof *conditions; c++)
            if (is_true(entry, conditions[c]))
                other_kind(loader, "its added token '%.32s' has %s", text, conditions[c]);
        tokenizer->added[tokenizer->added_count++] = (struct added_token){text, strlen(text), id};
        tokenizer->added_start[(uint8_t)*text] = true;
        tokenizer->pieces[id] = (struct token_piece){text, strlen(text), is_true(entry, "special")};
    }
    return EXIT_DONE;
}

int tokenizer_load(struct tokenizer *tokenizer, bool *there, char reason[256])
{
    struct loader loader = {.tokenizer = tokenizer, .reason = reason};
    const json_t *json = tokenizer->json;
    *reason = '\0';
    int failed =
        read_steps(&loader, json_object_get(json, "normalizer"), "normalizers", read_normaliser);
    if (!failed)
        failed = read_steps(&loader, json_object_get(json, "pre_tokenizer"), "pretokenizers",
                            read_pre_tokenizer);
    if (!failed && !loader.byte_level)
        other_kind(&loader, "it is not byte-level");
    if (!failed)
        failed = read_model(&loader, json_object_get(json, "model"));
    if (!failed && !*reason)
        failed = read_added(&loader, json_object_get(json, "added_tokens"));
    if (!failed && !*reason)
        failed = read_steps(&loader, json_object_get(json, "post_processor"), "processors",
                            read_post_processor);
    *there = !failed && !*reason;
    return failed;
}
