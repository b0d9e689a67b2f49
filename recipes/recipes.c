/* The list of recipes, and what a recipe sets its options to. */
#include "recipes/recipes.h"

#include <stdio.h>
#include <string.h>

extern const tsr_recipe tsr_recipe__beit, tsr_recipe__dino, tsr_recipe__dvae, tsr_recipe__finetune,
    tsr_recipe__ibot, tsr_recipe__mae, tsr_recipe__simsiam, tsr_recipe__supervised;

static const tsr_recipe *const all[] = {
    &tsr_recipe__ibot, &tsr_recipe__dino, &tsr_recipe__mae,        &tsr_recipe__simsiam,
    &tsr_recipe__beit, &tsr_recipe__dvae, &tsr_recipe__supervised, &tsr_recipe__finetune,
};
enum { RECIPES = sizeof all / sizeof all[0] };

const tsr_recipe *const *tsr_recipes(int *n)
{
    *n = RECIPES;
    return all;
}

const tsr_recipe *tsr_recipe_find_in(const tsr_recipe *const *recipes, int n, const char *name)
{
    char known[256] = "";
    for (int i = 0; i < n; i++) {
        if (strcmp(recipes[i]->name, name) == 0) return recipes[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", recipes[i]->name);
    }
    tsr_fail(TSR_STATUS_ARGUMENT, "there is no recipe \"%.60s\"; there are: %s", name, known);
    return NULL;
}

const tsr_recipe *tsr_recipe_find(const char *name)
{
    return tsr_recipe_find_in(all, RECIPES, name);
}

/* option=value, in whichever table has the option. */
static tsr_status set(const tsr_recipe *recipe, const char *option, const char *value,
                      tsr_train_options *train, void *options)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    const tsr_option *o = tsr_option_find(table, n, option);
    if (o != NULL) return tsr_option_set(o, train, value);
    o = tsr_option_find(recipe->options, recipe->n_options, option);
    if (o != NULL) return tsr_option_set(o, options, value);
    return tsr_fail(TSR_STATUS_ARGUMENT, "recipe %s: there is no option \"%.60s\" to set",
                    recipe->name, option);
}

tsr_status tsr_recipe_defaults(const tsr_recipe *recipe, tsr_train_options *train, void *options)
{
    int n;
    const tsr_option *table = tsr_train_option_table(&n);
    tsr_status status = tsr_options_default(table, n, train);
    if (status == TSR_STATUS_OK) {
        status = tsr_options_default(recipe->options, recipe->n_options, options);
    }
    for (int i = 0; i < recipe->n_defaults && status == TSR_STATUS_OK; i++) {
        const tsr_default *d = &recipe->defaults[i];
        status = set(recipe, d->option, d->value, train, options);
    }
    return status;
}

/* Each "option=value" of a preset. */
static tsr_status apply(const tsr_recipe *recipe, const tsr_preset *preset,
                        tsr_train_options *train, void *options)
{
    const char *p = preset->options;
    while (*(p += strspn(p, " ")) != '\0') {
        char option[64], value[TSR_OPTION_TEXT];
        int length = (int)strcspn(p, " ");
        if (sscanf(p, "%63[^= ]=%159[^ ]", option, value) != 2) {
            return tsr_fail(TSR_STATUS_ARGUMENT, "preset %s: \"%.*s\", expected option=value",
                            preset->name, length < 80 ? length : 80, p);
        }
        if (set(recipe, option, value, train, options) != TSR_STATUS_OK) return tsr_status_get();
        p += length;
    }
    return TSR_STATUS_OK;
}

tsr_status tsr_recipe_preset(const tsr_recipe *recipe, const char *name, tsr_train_options *train,
                             void *options)
{
    char known[256] = "none";
    for (int i = 0; i < recipe->n_presets; i++) {
        const tsr_preset *p = &recipe->presets[i];
        if (strcmp(p->name, name) == 0) return apply(recipe, p, train, options);
        size_t used = i == 0 ? 0 : strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i == 0 ? "" : ", ", p->name);
    }
    return tsr_fail(TSR_STATUS_ARGUMENT, "--preset: %s has no preset \"%.40s\"; it has: %s",
                    recipe->name, name, known);
}

bool tsr_recipe_set_scale(tsr_view_spec *spec, const tsr_list *scale)
{
    if (scale->n != 2) {
        tsr_fail(TSR_STATUS_ARGUMENT, "--scale is %d numbers, expected two: from,to", scale->n);
        return false;
    }
    spec->scale_lo = scale->at[0];
    spec->scale_hi = scale->at[1];
    return true;
}
