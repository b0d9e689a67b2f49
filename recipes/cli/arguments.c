/* Reads a command's arguments with getopt_long, and writes its --help, both from the same tables. */
#include "recipes/cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLAGS = 256, HELP = 1000, ENTRY = 2000 };

static int64_t threads;
static const tsr_flag common[] = {
    {"threads", TSR_FLAG_INT, &threads, "N",
     "processor threads; default: all this process may use"},
};
enum { COMMON = sizeof common / sizeof common[0] };

static void print_flag(const char *name, const char *argument, const char *meaning)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", name, argument != NULL ? " " : "",
             argument != NULL ? argument : "");
    printf("  %-34s %s\n", left, meaning);
}

/* Where the value of an option comes from: "[paper, table 8]", or where a preset sets another "[published 0.05, ...]". */
static void print_source(const tsr_arguments_table *table, const tsr_option *o, const char *value)
{
    const char *published = o->value, *source = o->source;
    for (int i = 0; i < table->n_defaults; i++) {
        if (strcmp(table->defaults[i].option, o->name) != 0) continue;
        published = table->defaults[i].value;
        source = table->defaults[i].source;
    }
    /* As tsr_option_text() writes it. */
    char text[TSR_OPTION_TEXT];
    tsr_list room;
    tsr_option here = *o;
    here.offset = 0;
    if (o->type == TSR_OPTION_PATH) return; /* nobody publishes one */
    if (tsr_option_set(&here, &room, published) != TSR_STATUS_OK) return;
    bool same = strcmp(tsr_option_text(&here, &room, text), value) == 0;
    if (source == NULL && same) return;
    printf(" [%s%s%s%s]", same ? "" : "published ", same ? "" : published,
           same || source == NULL ? "" : ", ", source != NULL ? source : "");
}

static void print_table(const tsr_arguments_table *table)
{
    printf("\n%s:\n", table->title);
    for (int i = 0; i < table->n; i++) {
        const tsr_option *o = &table->at[i];
        char text[TSR_OPTION_TEXT], left[TSR_OPTION_TEXT + 64];
        tsr_option_text(o, table->options, text);
        snprintf(left, sizeof left, "--%s %s", o->name, text);
        printf("  %-34s %s", left, o->meaning);
        print_source(table, o, text);
        printf("\n");
    }
}

static void print_help(const tsr_arguments *a)
{
    printf("Usage: %s %s\n\n%s\n\nExample:\n  %s %s\n\nOptions:\n", tsr_program__name(), a->usage,
           a->description, tsr_program__name(), a->example);
    for (int i = 0; i < a->n_flags; i++) {
        print_flag(a->flags[i].name, a->flags[i].argument, a->flags[i].meaning);
    }
    for (int i = 0; i < COMMON; i++)
        print_flag(common[i].name, common[i].argument, common[i].meaning);
    print_flag("help", NULL, "this text");
    for (int i = 0; i < a->n_tables; i++) print_table(&a->tables[i]);
}

int tsr_arguments__refuse(const tsr_arguments *a)
{
    fprintf(stderr, "%s: %s\nUsage: %s %s (--help explains)\n", tsr_program__name(), tsr_message(),
            tsr_program__name(), a->usage);
    return TSR_EXIT_USAGE;
}

/* ---- names that nobody knows ---- */

enum { WORD = 64 };

/* Insertions, deletions and substitutions that make b of a (Levenshtein 1966). */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(b), row[WORD + 1];
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t most = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            size_t same = corner + (a[i] != b[j]);
            corner = row[j + 1];
            row[j + 1] = most < same ? most : same;
        }
    }
    return row[n];
}

void tsr_nearest__offer(tsr_nearest *n, const char *name)
{
    if (strlen(n->given) > WORD || strlen(name) > WORD) return;
    bool begins = n->given[0] != '\0' && strncmp(name, n->given, strlen(n->given)) == 0;
    size_t d = begins ? 1 : distance(n->given, name);
    if (d > (strlen(n->given) + 1) / 3 || (n->name != NULL && d >= n->distance)) return;
    n->name = name;
    n->distance = d;
}

/* "--given" or "--given=value", which is not in the list. */
static void refuse_option(const char *given, const struct option *list)
{
    char name[WORD + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(given, "="), given);
    tsr_nearest nearest = {.given = name + strspn(name, "-")};
    for (int i = 0; list[i].name != NULL; i++) tsr_nearest__offer(&nearest, list[i].name);
    tsr_fail(TSR_STATUS_ARGUMENT, "%s: no such option%s%s%s", name,
             nearest.name != NULL ? "; did you mean --" : "",
             nearest.name != NULL ? nearest.name : "", nearest.name != NULL ? "?" : "");
}

/* ---- reading ---- */

static bool set_flag(const tsr_flag *flag, const char *text)
{
    char *end = NULL;
    switch (flag->type) {
    case TSR_FLAG_TEXT:
        *(const char **)flag->value = text;
        return true;
    case TSR_FLAG_SWITCH:
        *(bool *)flag->value = true;
        return true;
    case TSR_FLAG_INT:
        *(int64_t *)flag->value = strtoll(text, &end, 10);
        break;
    case TSR_FLAG_DOUBLE:
        *(double *)flag->value = strtod(text, &end);
        break;
    }
    double x =
        flag->type == TSR_FLAG_INT ? (double)*(int64_t *)flag->value : *(double *)flag->value;
    bool bounded = flag->lo != 0.0 || flag->hi != 0.0;
    if (end != text && *end == '\0' && (!bounded || (x >= flag->lo && x <= flag->hi))) return true;
    const char *kind = flag->type == TSR_FLAG_INT ? "a whole number" : "a number";
    if (bounded) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--%s: got \"%.60s\", expected %s from %.15g to %.15g",
                 flag->name, text, kind, flag->lo, flag->hi);
    } else {
        tsr_fail(TSR_STATUS_ARGUMENT, "--%s: got \"%.60s\", expected %s", flag->name, text, kind);
    }
    return false;
}

/* Entry k of: the command's flags, the common ones, then each table's options. */
static bool set_entry(tsr_arguments *a, int k, const char *text)
{
    if (k < a->n_flags) return set_flag(&a->flags[k], text);
    k -= a->n_flags;
    if (k < COMMON) return set_flag(&common[k], text);
    k -= COMMON;
    for (int t = 0; t < a->n_tables; t++) {
        tsr_arguments_table *table = &a->tables[t];
        if (k < table->n) {
            table->given[k] = true;
            return tsr_option_set(&table->at[k], table->options, text) == TSR_STATUS_OK;
        }
        k -= table->n;
    }
    return false;
}

static int list_entries(const tsr_arguments *a, struct option *list)
{
    int n = 0;
    for (int i = 0; i < a->n_flags; i++, n++) {
        int wants = a->flags[i].type == TSR_FLAG_SWITCH ? no_argument : required_argument;
        list[n] = (struct option){a->flags[i].name, wants, NULL, ENTRY + n};
    }
    for (int i = 0; i < COMMON; i++, n++) {
        list[n] = (struct option){common[i].name, required_argument, NULL, ENTRY + n};
    }
    for (int t = 0; t < a->n_tables; t++) {
        for (int i = 0; i < a->tables[t].n; i++, n++) {
            list[n] = (struct option){a->tables[t].at[i].name, required_argument, NULL, ENTRY + n};
        }
    }
    list[n] = (struct option){"help", no_argument, NULL, HELP};
    list[n + 1] = (struct option){0};
    return n;
}

int tsr_arguments__parse(tsr_arguments *a, int argc, char **argv)
{
    struct option list[FLAGS];
    list_entries(a, list);
    optind = 0;
    opterr = 0;
    int k;
    while ((k = getopt_long(argc, argv, ":", list, NULL)) != -1) {
        if (k == HELP) {
            print_help(a);
            return TSR_EXIT_OK;
        }
        if (k == '?' || k == ':') {
            if (k == ':') {
                tsr_fail(TSR_STATUS_ARGUMENT, "%s: a value is missing", argv[optind - 1]);
            } else {
                refuse_option(argv[optind - 1], list);
            }
            return tsr_arguments__refuse(a);
        }
        if (!set_entry(a, k - ENTRY, optarg)) return tsr_arguments__refuse(a);
    }
    for (; optind < argc; optind++) {
        if (a->n_positional == a->max_positional) {
            tsr_fail(TSR_STATUS_ARGUMENT, "\"%.60s\": one argument too many", argv[optind]);
            return tsr_arguments__refuse(a);
        }
        a->positional[a->n_positional++] = argv[optind];
    }
    if (a->n_positional < a->min_positional) {
        tsr_fail(TSR_STATUS_ARGUMENT, "an argument is missing");
        return tsr_arguments__refuse(a);
    }
    if (threads > 0) tsr_threads_set((int)threads);
    return -1;
}

int tsr_program__report(void)
{
    if (tsr_status_get() == TSR_STATUS_OK) return TSR_EXIT_OK;
    fprintf(stderr, "%s: %s\n", tsr_program__name(), tsr_message());
    return TSR_EXIT_FAILED;
}
