/* tessera recipes: which there are. tessera diff-recipe: in which options two of them, or two runs, differ. */
#include "recipes/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int tsr_command__recipes(int argc, char **argv)
{
    tsr_arguments arguments = {.usage = "recipes",
                               .example = "recipes",
                               .description =
                                   "Lists the recipes, their papers, and the presets of each."};
    int status = tsr_arguments__parse(&arguments, argc, argv), n;
    if (status >= 0) return status;
    const tsr_recipe *const *recipes = tsr_program__recipes(&n);
    for (int i = 0; i < n; i++) {
        const tsr_recipe *r = recipes[i];
        printf("%s%s: %s\n  %s\n", i > 0 ? "\n" : "", r->name, r->title, r->paper);
        for (int k = 0; k < r->n_presets; k++) {
            printf("  --preset %-14s %s\n", r->presets[k].name, r->presets[k].meaning);
        }
    }
    return TSR_EXIT_OK;
}

/* ---- diff-recipe ---- */

enum { OPTIONS = 192 };

/* All options of a recipe or of a run, as a user would write them. */
struct settings {
    int n;
    struct {
        char name[64], value[TSR_OPTION_TEXT];
    } at[OPTIONS];
};

static void add(struct settings *s, const char *name, const char *value)
{
    if (s->n == OPTIONS) {
        tsr_fail(TSR_STATUS_ARGUMENT, "diff-recipe: more than %d options", OPTIONS);
        return;
    }
    snprintf(s->at[s->n].name, sizeof s->at[0].name, "%s", name);
    snprintf(s->at[s->n++].value, sizeof s->at[0].value, "%s", value);
}

static const char *value_of(const struct settings *s, const char *name)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->at[i].name, name) == 0) return s->at[i].value;
    }
    return NULL;
}

static void add_table(struct settings *s, const tsr_option *table, int n, const void *options)
{
    for (int i = 0; i < n; i++) {
        char text[TSR_OPTION_TEXT];
        add(s, table[i].name, tsr_option_text(&table[i], options, text));
    }
}

static tsr_status of_recipe(struct settings *s, const tsr_recipe *recipe, const char *preset)
{
    tsr_train_options train;
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    void *options = calloc(1, recipe->options_size);
    if (options == NULL) return tsr_fail(TSR_STATUS_MEMORY, "diff-recipe: no memory");
    tsr_recipe_defaults(recipe, &train, options);
    if (preset != NULL) tsr_recipe_preset(recipe, preset, &train, options);
    add(s, "recipe", recipe->name);
    add_table(s, table, n, &train);
    add_table(s, recipe->options, recipe->n_options, options);
    free(options);
    return tsr_status_get();
}

static tsr_status of_run(struct settings *s, const char *path)
{
    char file[TSR_CHECKPOINT_PATH];
    const char *recipe = "";
    tsr_checkpoint *c = tsr_checkpoint_open_run(path, file);
    if (c == NULL) return tsr_status_get();
    if (tsr_checkpoint_get_string(c, "recipe", &recipe) == TSR_STATUS_OK) add(s, "recipe", recipe);
    for (int64_t i = 0; i < tsr_checkpoint_value_count(c); i++) {
        const tsr_checkpoint_value *v = tsr_checkpoint_value_at(c, i);
        if (v->kind == TSR_VALUE_KIND_STRING && strncmp(v->key, "option.", 7) == 0) {
            add(s, v->key + 7, v->u.as_string);
        }
    }
    tsr_checkpoint_close(&c);
    return tsr_status_get();
}

/* RECIPE, RECIPE:PRESET, the directory of a run, or a checkpoint. */
static tsr_status read_settings(struct settings *s, const char *text)
{
    int n;
    const tsr_recipe *const *recipes = tsr_program__recipes(&n);
    size_t length = strcspn(text, ":");
    for (int i = 0; i < n; i++) {
        if (strncmp(recipes[i]->name, text, length) == 0 && recipes[i]->name[length] == '\0') {
            return of_recipe(s, recipes[i], text[length] == ':' ? text + length + 1 : NULL);
        }
    }
    struct stat info;
    if (stat(text, &info) == 0) return of_run(s, text);
    return tsr_fail(TSR_STATUS_ARGUMENT,
                    "\"%.200s\" is no recipe, RECIPE:PRESET, directory of a run or checkpoint; "
                    "%s recipes lists recipes and presets",
                    text, tsr_program__name());
}

static bool print_difference(const char *name, const char *a, const char *b)
{
    if (a != NULL && b != NULL && strcmp(a, b) == 0) return false;
    printf("%-28s %-24s %s\n", name, a != NULL ? a : "-", b != NULL ? b : "-");
    return true;
}

int tsr_command__diff_recipe(int argc, char **argv)
{
    tsr_arguments arguments = {
        .usage = "diff-recipe A B",
        .example = "diff-recipe ibot:vit-s RUN",
        .description =
            "Prints the options in which A and B differ, and nothing else; - where one does not have it.\n"
            "Each is a recipe with its published defaults, RECIPE:PRESET, the directory of a run, or a\n"
            "checkpoint.",
        .min_positional = 2,
        .max_positional = 2};
    int status = tsr_arguments__parse(&arguments, argc, argv);
    if (status >= 0) return status;
    const char *const *name = arguments.positional;
    static struct settings a, b;
    if (read_settings(&a, name[0]) != TSR_STATUS_OK || read_settings(&b, name[1]) != TSR_STATUS_OK)
        return tsr_program__report();
    printf("%-28s %-24s %s\n", "", name[0], name[1]);
    int differences = 0;
    for (int i = 0; i < a.n; i++) {
        differences += print_difference(a.at[i].name, a.at[i].value, value_of(&b, a.at[i].name));
    }
    for (int i = 0; i < b.n; i++) {
        if (value_of(&a, b.at[i].name) != NULL) continue;
        differences += print_difference(b.at[i].name, NULL, b.at[i].value);
    }
    if (differences == 0) printf("no option differs\n");
    return TSR_EXIT_OK;
}
