#include "texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SYLLABLES = 100,
    HELD_OUT = 10, // a name or word is held out when the sum of its syllables is a multiple
    NAME_SYLLABLES = 3,
    NAME_BYTES = 2 * NAME_SYLLABLES,
    DIGITS = 5,
    FACTS = 8,
    VOTERS = 4,
    VOTES = 16,
    VOTES_WON = 10,
    VOTES_SECOND = 4,
    NOTES = VOTERS * VOTES, // most things hidden in one text
    NOTE_BYTES = 24,
    FILLER_LEAST = 64
};

// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct source {
    uint64_t state;
};

static uint64_t next(struct source *source)
{
    uint64_t x = source->state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

// A whole number below `below`; of 2^64 / below, the bias does not matter.
static uint32_t draw(struct source *source, uint32_t below)
{
    return (uint32_t)(next(source) % below);
}

// Mixes a number into the state, so that sources of different numbers have nothing in common.
static void stir(struct source *source, uint64_t value)
{
    source->state ^= value * 0xd6e8feb86659fd93;
    source->state = next(source);
}

static void shuffle(struct source *source, uint32_t *values, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = draw(source, i);
        uint32_t kept = values[i - 1];
        values[i - 1] = values[j];
        values[j] = kept;
    }
}

static void write_syllable(uint32_t syllable, char *target)
{
    target[0] = "bcdfghjklmnpqrstvwxz"[syllable / 5];
    target[1] = "aeiou"[syllable % 5];
}

// Syllables whose sum is a multiple of HELD_OUT, all such words being equally likely.
static void write_held_out(struct source *source, uint32_t syllables, char *target)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i + 1 < syllables; i++, target += 2) {
        uint32_t syllable = draw(source, SYLLABLES);
        sum += syllable;
        write_syllable(syllable, target);
    }
    uint32_t first = (HELD_OUT - sum % HELD_OUT) % HELD_OUT;
    write_syllable(first + HELD_OUT * draw(source, SYLLABLES / HELD_OUT), target);
}

static void write_names(struct source *source, char (*names)[NAME_BYTES], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bool seen;
        do {
            write_held_out(source, NAME_SYLLABLES, names[i]);
            seen = false;
            for (uint32_t j = 0; j < i; j++)
                seen |= memcmp(names[i], names[j], NAME_BYTES) == 0;
        } while (seen);
    }
}

// A word of the filler without what follows it. Returns its length.
static size_t write_word(struct source *source, char *target)
{
    uint32_t chance = draw(source, 10);
    uint32_t syllables = chance < 2 ? 1 : chance < 6 ? 2 : chance < 9 ? 3 : 4;
    if (syllables == 1)
        write_syllable(draw(source, SYLLABLES), target);
    else
        write_held_out(source, syllables, target);
    size_t length = 2 * syllables;
    if (draw(source, 100) < 15)
        target[length++] = "nrslt"[draw(source, 5)];
    return length;
}

// Exactly so many bytes of words, each followed by a blank. The last ones are of one syllable, of
// 3 or 4 bytes with the blank, which sum up to anything from 6 on.
static void write_filler(struct source *source, char *target, size_t bytes)
{
    enum { LONGEST = 11, SENTENCE = 6, SENTENCES = 9, TAIL = 6 };
    uint32_t words = SENTENCE + draw(source, SENTENCES);
    while (bytes >= LONGEST + TAIL) {
        size_t length = write_word(source, target);
        if (--words == 0) {
            target[length++] = '.';
            words = SENTENCE + draw(source, SENTENCES);
        }
        target[length++] = ' ';
        target += length;
        bytes -= length;
    }
    while (bytes > 0) {
        size_t length = bytes == 4 || bytes == 8 ? 4 : 3;
        write_syllable(draw(source, SYLLABLES), target);
        if (length == 4)
            target[2] = "nrslt"[draw(source, 5)];
        target[length - 1] = ' ';
        target += length;
        bytes -= length;
    }
}

// Something to hide: its text, and how much of the filler comes before it.
struct note {
    char text[NOTE_BYTES];
    size_t length;
    uint64_t place;
    uint32_t question; // that it helps to answer; TEXT_QUESTIONS: none
    uint32_t other;    // a second one; TEXT_QUESTIONS: none
};

struct plan {
    struct note notes[NOTES];
    uint32_t count;
};

static struct note *add_note(struct plan *plan, uint32_t question)
{
    struct note *note = &plan->notes[plan->count++];
    *note = (struct note){.question = question, .other = TEXT_QUESTIONS};
    return note;
}

static void end_note(struct note *note)
{
    note->length = strlen(note->text);
}

static void write_digits(struct source *source, char *target)
{
    for (uint32_t i = 0; i < DIGITS; i++)
        target[i] = (char)('0' + draw(source, 10));
    target[DIGITS] = '\0';
}

static void plan_facts(struct source *source, uint32_t count, struct text *text, struct plan *plan)
{
    char names[FACTS][NAME_BYTES];
    write_names(source, names, count);
    text->question_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct text_question *question = &text->questions[i];
        write_digits(source, question->answer);
        snprintf(question->question, sizeof question->question, "[%.*s=", NAME_BYTES, names[i]);
        struct note *note = add_note(plan, i);
        snprintf(note->text, sizeof note->text, "%s%.*s] ", question->question, DIGITS,
                 question->answer);
        end_note(note);
    }
}

// Facts as above; question i is for the larger of each two digits of fact i and the next one.
static void plan_pairs(struct source *source, struct text *text, struct plan *plan)
{
    plan_facts(source, FACTS, text, plan);
    struct text facts = *text;
    for (uint32_t i = 0; i < FACTS; i++) {
        uint32_t j = (i + 1) % FACTS;
        struct text_question *question = &text->questions[i];
        plan->notes[j].other = i;
        const struct text_question *a = &facts.questions[i];
        const struct text_question *b = &facts.questions[j];
        snprintf(question->question, sizeof question->question, "[%.*s|%.*s=", NAME_BYTES,
                 a->question + 1, NAME_BYTES, b->question + 1);
        for (uint32_t d = 0; d < DIGITS; d++)
            question->answer[d] = a->answer[d] > b->answer[d] ? a->answer[d] : b->answer[d];
    }
}

// Ten votes for one digit and six for others, none of which gets more than four.
static uint32_t draw_votes(struct source *source, uint32_t votes[VOTES])
{
    uint32_t counts[10] = {0};
    uint32_t winner = draw(source, 10);
    for (uint32_t i = 0; i < VOTES; i++) {
        uint32_t digit = winner;
        while (i >= VOTES_WON && (digit == winner || counts[digit] == VOTES_SECOND))
            digit = draw(source, 10);
        counts[digit]++;
        votes[i] = digit;
    }
    return winner;
}

static void plan_votes(struct source *source, struct text *text, struct plan *plan)
{
    char names[VOTERS][NAME_BYTES];
    write_names(source, names, VOTERS);
    text->question_count = VOTERS;
    for (uint32_t i = 0; i < VOTERS; i++) {
        struct text_question *question = &text->questions[i];
        uint32_t votes[VOTES];
        snprintf(question->answer, sizeof question->answer, "%u", draw_votes(source, votes));
        snprintf(question->question, sizeof question->question, "(%.*s:", NAME_BYTES, names[i]);
        for (uint32_t v = 0; v < VOTES; v++) {
            struct note *note = add_note(plan, i);
            snprintf(note->text, sizeof note->text, "%s%u) ", question->question, votes[v]);
            end_note(note);
        }
    }
}

// The step of a text: those of all texts are a permutation.
static bool find_depth(const struct text_key *key, uint32_t *depth)
{
    struct source source = {key->seed};
    stir(&source, key->length);
    uint32_t *depths = malloc(key->contexts * sizeof *depths);
    if (!depths)
        return false;
    for (uint32_t i = 0; i < key->contexts; i++)
        depths[i] = i;
    shuffle(&source, depths, key->contexts);
    *depth = depths[key->index];
    free(depths);
    return true;
}

static int compare_places(const void *a, const void *b)
{
    const struct note *x = a;
    const struct note *y = b;
    return x->place != y->place ? (x->place > y->place) - (x->place < y->place)
                                : memcmp(x->text, y->text, sizeof x->text);
}

// Places of a passkey go from 1 to 100 % of the text, one in each of as many equal parts as there
// are texts; others are anywhere. False: out of memory.
static bool place_notes(struct source *source, const struct text_key *key, struct plan *plan,
                        uint64_t filler)
{
    for (uint32_t i = 0; i < plan->count; i++)
        plan->notes[i].place = next(source) % (filler + 1);
    if (key->task == TEXT_PASSKEY) {
        uint64_t first = filler / 100;
        uint64_t parts = key->contexts;
        uint32_t depth = 0;
        if (!find_depth(key, &depth))
            return false;
        plan->notes[0].place = parts > 1 ? first + (filler - first) * depth / (parts - 1)
                                         : first + (filler - first) / 2;
    }
    qsort(plan->notes, plan->count, sizeof *plan->notes, compare_places);
    return true;
}

static void note_span(struct text *text, uint32_t question, size_t first, size_t length)
{
    if (question == TEXT_QUESTIONS)
        return;
    struct text_question *asked = &text->questions[question];
    asked->spans[asked->span_count++] = (struct text_span){first, first + length};
}

// Puts each note behind the word of the filler that ends at its place or after it.
static void mix(struct text *text, const struct plan *plan, const char *filler, size_t bytes)
{
    size_t read = 0;
    size_t written = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct note *note = &plan->notes[i];
        size_t end = note->place > read ? (size_t)note->place : read;
        while (end < bytes && end > 0 && filler[end - 1] != ' ')
            end++;
        memcpy(text->bytes + written, filler + read, end - read);
        written += end - read;
        read = end;
        memcpy(text->bytes + written, note->text, note->length);
        // Without the blank.
        note_span(text, note->question, written, note->length - 1);
        note_span(text, note->other, written, note->length - 1);
        written += note->length;
    }
    memcpy(text->bytes + written, filler + read, bytes - read);
}

uint32_t text_questions(enum text_task task)
{
    static const uint32_t counts[] = {1, FACTS, FACTS, VOTERS};
    return counts[task];
}

size_t text_question_bytes(enum text_task task)
{
    return task == TEXT_PAIR ? 2 * NAME_BYTES + 3 : NAME_BYTES + 2;
}

static size_t note_bytes(enum text_task task)
{
    static const uint32_t counts[] = {1, FACTS, FACTS, NOTES};
    return counts[task] * (size_t)(task == TEXT_VOTES ? NAME_BYTES + 5 : NAME_BYTES + DIGITS + 4);
}

size_t text_least(enum text_task task)
{
    return note_bytes(task) + FILLER_LEAST;
}

bool text_make(struct text *text, const struct text_key *key, size_t bytes)
{
    *text = (struct text){.length = bytes};
    struct plan plan = {.count = 0};
    size_t filler_bytes = bytes - note_bytes(key->task);
    char *filler = malloc(filler_bytes);
    text->bytes = malloc(bytes);
    if (!filler || !text->bytes) {
        free(filler);
        text_free(text);
        return false;
    }
    struct source source = {key->seed};
    stir(&source, key->task);
    stir(&source, key->length);
    stir(&source, key->index);
    if (key->task == TEXT_PAIR)
        plan_pairs(&source, text, &plan);
    else if (key->task == TEXT_VOTES)
        plan_votes(&source, text, &plan);
    else
        plan_facts(&source, key->task == TEXT_PASSKEY ? 1 : FACTS, text, &plan);
    write_filler(&source, filler, filler_bytes);
    bool placed = place_notes(&source, key, &plan, filler_bytes);
    if (placed)
        mix(text, &plan, filler, filler_bytes);
    else
        text_free(text);
    free(filler);
    return placed;
}

void text_free(struct text *text)
{
    free(text->bytes);
    *text = (struct text){0};
}
