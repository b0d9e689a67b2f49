/* A recipe named on the command line: its tables of options, and presets. */
#include "recipes/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *find_preset(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--preset") == 0 && i + 1 < argc) return argv[i + 1];
        if (strncmp(argv[i], "--preset=", 9) == 0) return argv[i] + 9;
    }
    return NULL;
}

static void list_recipes(const char *command)
{
    int n;
    const tsr_recipe *const *recipes = tsr_program__recipes(&n);
    printf("Usage: %s %s RECIPE [options] (%s %s RECIPE --help)\n\nRecipes:\n", tsr_program__name(),
           command, tsr_program__name(), command);
    for (int i = 0; i < n; i++) {
        printf("  %-10s %s\n  %10s %s\n", recipes[i]->name, recipes[i]->title, "",
               recipes[i]->paper);
    }
}

const char *tsr_recipe_arguments__describe(tsr_recipe_arguments *r, const char *about)
{
    size_t size = sizeof r->description;
    size_t used = (size_t)snprintf(r->description, size, "%s\nPresets:", about);
    for (int i = 0; i < r->recipe->n_presets && used < size; i++) {
        const tsr_preset *p = &r->recipe->presets[i];
        used += (size_t)snprintf(r->description + used, size - used, "\n  %-14s %s", p->name,
                                 p->meaning);
    }
    return r->description;
}

int tsr_recipe_arguments__open(tsr_recipe_arguments *r, const char *command, int argc, char **argv)
{
    *r = (tsr_recipe_arguments){0};
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        list_recipes(command);
        return argc < 2 ? TSR_EXIT_USAGE : TSR_EXIT_OK;
    }
    int n;
    const tsr_recipe *const *recipes = tsr_program__recipes(&n);
    r->recipe = tsr_recipe_find_in(recipes, n, argv[1]);
    if (r->recipe == NULL) {
        tsr_program__report();
        return TSR_EXIT_USAGE;
    }
    r->options = calloc(1, r->recipe->options_size);
    if (r->options == NULL) return TSR_EXIT_FAILED;
    const tsr_option *table = tsr_train_option_table(&n);
    r->tables[0] =
        (tsr_arguments_table){.title = "Training", .at = table, .n = n, .options = &r->train};
    r->tables[1] = (tsr_arguments_table){.title = r->recipe->title,
                                         .at = r->recipe->options,
                                         .n = r->recipe->n_options,
                                         .options = r->options};
    for (int t = 0; t < 2; t++) {
        r->tables[t].defaults = r->recipe->defaults;
        r->tables[t].n_defaults = r->recipe->n_defaults;
    }
    tsr_recipe_defaults(r->recipe, &r->train, r->options);
    char about[512];
    snprintf(about, sizeof about,
             "%s.\n%s.\nIn brackets: where the published value of an option comes from.",
             r->recipe->title, r->recipe->paper);
    tsr_recipe_arguments__describe(r, about);
    const char *preset = find_preset(argc, argv);
    if (preset != NULL) tsr_recipe_preset(r->recipe, preset, &r->train, r->options);
    if (tsr_status_get() == TSR_STATUS_OK) return -1;
    tsr_program__report();
    tsr_recipe_arguments__close(r);
    return TSR_EXIT_USAGE;
}

void tsr_recipe_arguments__close(tsr_recipe_arguments *r)
{
    free(r->options);
    r->options = NULL;
}
