// Tests of the texts of skim evaluate. With arguments, TASK SEED LENGTH INDEX CONTEXTS BYTES,
// prints that text instead, then a line for each question with its answer.
#include "texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            failures++;                                                                            \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

static const char *const names[] = {"passkey", "facts", "pair", "votes"};
static const char consonants[] = "bcdfghjklmnpqrstvwxz";
static const char vowels[] = "aeiou";

// The sum of a word's syllables, or -1 if it is no word; a letter at the end may close it.
static int sum_syllables(const char *word, size_t length, bool closed)
{
    if (closed && length % 2 == 1 && strchr("nrslt", word[length - 1]))
        length--;
    int sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2) {
        const char *c = strchr(consonants, word[i]);
        const char *v = strchr(vowels, word[i + 1]);
        if (!c || !v)
            return -1;
        sum += 5 * (int)(c - consonants) + (int)(v - vowels);
    }
    return length % 2 || length == 0 ? -1 : sum;
}

static uint64_t checksum(const char *bytes, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3;
    return hash;
}

static unsigned count_places(const struct text *text, const char *what)
{
    unsigned count = 0;
    size_t length = strlen(what);
    for (size_t i = 0; i + length <= text->length; i++)
        count += memcmp(text->bytes + i, what, length) == 0;
    return count;
}

// Every word of the filler is made of syllables, and those of several are held out.
static void check_words(const struct text *text)
{
    size_t start = 0;
    unsigned lengths[5] = {0};
    EXPECT(text->bytes[text->length - 1] == ' ', "the last byte is no blank");
    for (size_t i = 0; i < text->length; i++) {
        if (text->bytes[i] != ' ')
            continue;
        const char *word = text->bytes + start;
        size_t length = i - start;
        start = i + 1;
        if (*word == '[' || *word == '(')
            continue;
        length -= length > 0 && word[length - 1] == '.';
        int sum = sum_syllables(word, length, true);
        EXPECT(sum >= 0 && length / 2 <= 4, "'%.*s' is no word", (int)length, word);
        EXPECT(length < 4 || sum % 10 == 0, "'%.*s' is not held out", (int)length, word);
        lengths[length / 2 <= 4 ? length / 2 : 0]++;
    }
    unsigned words = lengths[1] + lengths[2] + lengths[3] + lengths[4];
    for (unsigned i = 1; words > 1000 && i <= 4; i++) {
        static const unsigned shares[] = {0, 20, 40, 30, 10};
        unsigned share = 100 * lengths[i] / words;
        EXPECT(share + 4 >= shares[i] && share <= shares[i] + 4, "%u %% have %u syllables", share,
               i);
    }
}

static void check_names(const struct text *text)
{
    for (uint32_t q = 0; q < text->question_count; q++) {
        const char *question = text->questions[q].question;
        for (const char *name = question + 1; name < question + strlen(question); name += 7) {
            int sum = sum_syllables(name, 6, false);
            EXPECT(sum >= 0 && sum % 10 == 0, "the name in '%s' is not held out", question);
        }
    }
}

static char digit_at(const struct text *text, const struct text_span *span, size_t place)
{
    return text->bytes[span->first + 8 + place];
}

static void check_facts(const struct text *text, enum text_task task)
{
    for (uint32_t q = 0; q < text->question_count; q++) {
        const struct text_question *question = &text->questions[q];
        EXPECT(strlen(question->answer) == 5, "'%s'", question->answer);
        EXPECT(question->span_count == (task == TEXT_PAIR ? 2u : 1u), "%u spans",
               question->span_count);
        for (uint32_t s = 0; s < question->span_count; s++) {
            const struct text_span *span = &question->spans[s];
            EXPECT(span->end - span->first == 14 && text->bytes[span->first] == '[' &&
                       text->bytes[span->end - 1] == ']' && text->bytes[span->end] == ' ',
                   "'%.*s'", (int)(span->end - span->first), text->bytes + span->first);
            EXPECT(span->first == 0 || text->bytes[span->first - 1] == ' ', "no word before it");
        }
        for (size_t d = 0; d < 5; d++) {
            char a = digit_at(text, &question->spans[0], d);
            char b = digit_at(text, &question->spans[question->span_count - 1], d);
            EXPECT(question->answer[d] == (a > b ? a : b), "digit %zu of '%s'", d,
                   question->question);
        }
        char fact[32];
        snprintf(fact, sizeof fact, "%.7s=", question->question);
        EXPECT(count_places(text, fact) == 1, "'%s' is not there once", fact);
    }
}

static void check_votes(const struct text *text)
{
    for (uint32_t q = 0; q < text->question_count; q++) {
        const struct text_question *question = &text->questions[q];
        unsigned counts[10] = {0};
        EXPECT(question->span_count == 16, "%u votes", question->span_count);
        EXPECT(count_places(text, question->question) == 16, "'%s'", question->question);
        for (uint32_t s = 0; s < question->span_count; s++)
            counts[digit_at(text, &question->spans[s], 0) - '0']++;
        for (int d = 0; d < 10; d++)
            EXPECT(d == *question->answer - '0' ? counts[d] == 10 : counts[d] <= 4,
                   "%u votes for %d", counts[d], d);
    }
}

static void test_every_length_is_exact_and_what_is_hidden_is_there(void)
{
    for (int task = 0; task <= TEXT_VOTES; task++)
        for (size_t bytes = text_least((enum text_task)task); bytes < 20000;
             bytes += bytes < 900 ? 1 : 997) {
            struct text_key key = {
                .task = (enum text_task)task, .seed = 3, .index = 1, .contexts = 5};
            struct text text;
            if (!text_make(&text, &key, bytes))
                exit(2);
            EXPECT(text.length == bytes && text.question_count == text_questions(key.task), "%s",
                   names[task]);
            EXPECT(strlen(text.questions[0].question) == text_question_bytes(key.task), "%s",
                   names[task]);
            check_words(&text);
            check_names(&text);
            if (task == TEXT_VOTES)
                check_votes(&text);
            else
                check_facts(&text, key.task);
            text_free(&text);
        }
}

// From 1 to 100 % in equal steps, give or take a word.
static void test_passkeys_lie_at_every_depth(void)
{
    enum { CONTEXTS = 100, BYTES = 10000 };
    bool seen[CONTEXTS] = {false};
    for (uint32_t i = 0; i < CONTEXTS; i++) {
        struct text_key key = {.task = TEXT_PASSKEY, .index = i, .contexts = CONTEXTS};
        struct text text;
        if (!text_make(&text, &key, BYTES))
            exit(2);
        double place = (double)text.questions[0].spans[0].first / (BYTES - 15);
        int step = (int)((place - 0.01) * (CONTEXTS - 1) / 0.99 + 0.02);
        EXPECT(step >= 0 && step < CONTEXTS && !seen[step], "text %u is at %.4f", i, place);
        seen[step >= 0 && step < CONTEXTS ? step : 0] = true;
        text_free(&text);
    }
}

// Other machines and later versions must make the same texts.
static void test_texts_are_those_of_before(void)
{
    static const uint64_t expected[] = {0x0224699b24f907a9, 0xcfc2901b2197fcde, 0x7c952c53a65bdae8,
                                        0x66e5553d173fb402};
    for (int task = 0; task <= TEXT_VOTES; task++) {
        struct text_key key = {
            .task = (enum text_task)task, .seed = 7, .length = 4096, .index = 2, .contexts = 9};
        struct text text;
        if (!text_make(&text, &key, 4000))
            exit(2);
        uint64_t made = checksum(text.bytes, text.length);
        EXPECT(made == expected[task], "%s: 0x%016llx", names[task], (unsigned long long)made);
        text_free(&text);
    }
}

static void test_other_keys_make_other_texts(void)
{
    const struct text_key keys[] = {
        {.task = TEXT_FACTS, .length = 1, .contexts = 2},
        {.task = TEXT_FACTS, .length = 1, .contexts = 2, .index = 1},
        {.task = TEXT_FACTS, .length = 2, .contexts = 2},
        {.task = TEXT_FACTS, .length = 1, .contexts = 2, .seed = 1},
        {.task = TEXT_PAIR, .length = 1, .contexts = 2},
    };
    uint64_t sums[sizeof keys / sizeof *keys];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct text text;
        if (!text_make(&text, &keys[i], 600))
            exit(2);
        sums[i] = checksum(text.bytes, text.length);
        for (size_t j = 0; j < i; j++)
            EXPECT(sums[i] != sums[j], "texts %zu and %zu are the same", i, j);
        text_free(&text);
    }
}

static int print(char **words)
{
    struct text_key key = {.seed = strtoull(words[1], NULL, 10),
                           .length = (uint32_t)strtoul(words[2], NULL, 10),
                           .index = (uint32_t)strtoul(words[3], NULL, 10),
                           .contexts = (uint32_t)strtoul(words[4], NULL, 10)};
    for (int task = 0; task <= TEXT_VOTES; task++)
        if (strcmp(words[0], names[task]) == 0)
            key.task = (enum text_task)task;
    struct text text;
    if (!text_make(&text, &key, strtoul(words[5], NULL, 10)))
        return 2;
    printf("%.*s\n", (int)text.length, text.bytes);
    for (uint32_t i = 0; i < text.question_count; i++)
        printf("%s %s\n", text.questions[i].question, text.questions[i].answer);
    text_free(&text);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7)
        return print(argv + 1);
    test_every_length_is_exact_and_what_is_hidden_is_there();
    test_passkeys_lie_at_every_depth();
    test_texts_are_those_of_before();
    test_other_keys_make_other_texts();
    if (failures)
        fprintf(stderr, "%d failures\n", failures);
    return failures != 0;
}
