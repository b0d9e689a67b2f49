/* The list of recipes. */
#include "recipes/recipes.h"

#include <stdio.h>
#include <string.h>

extern const tsr_recipe tsr_recipe__ibot;

static const tsr_recipe *const all[] = {
    &tsr_recipe__ibot,
};
enum { RECIPES = sizeof all / sizeof all[0] };

const tsr_recipe *const *tsr_recipes(int *n)
{
    *n = RECIPES;
    return all;
}

const tsr_recipe *tsr_recipe_find(const char *name)
{
    char known[256] = "";
    for (int i = 0; i < RECIPES; i++) {
        if (strcmp(all[i]->name, name) == 0) return all[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", all[i]->name);
    }
    tsr_fail(TSR_STATUS_ARGUMENT, "there is no recipe \"%.60s\"; there are: %s", name, known);
    return NULL;
}
