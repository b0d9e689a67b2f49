/* A program of commands: tessera itself, and those of tsr_main(). */
#include "recipes/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const tsr_program *program;

const char *tsr_program__name(void)
{
    return program->name;
}

const tsr_recipe *const *tsr_program__recipes(int *n)
{
    *n = program->n_recipes;
    return program->recipes;
}

static void print_help(void)
{
    printf("Usage: %s COMMAND ... (%s COMMAND --help explains one)\n\n%s\n\nCommands:\n",
           program->name, program->name, program->about);
    for (int i = 0; i < program->n_commands; i++) {
        printf("  %-12s %s\n", program->commands[i].name, program->commands[i].summary);
    }
    if (program->n_recipes > 0) {
        printf("\nFirst steps:\n"
               "  %s pretrain %s --data IMAGES --out RUN\n"
               "  %s knn RUN --data IMAGES\n",
               program->name, program->recipes[0]->name, program->name);
    }
}

/*
 * gcc's OpenMP lets idle threads spin for milliseconds before they sleep. Loader threads, and other programs, then wait for
 * them: on a busy machine a step takes ten times as long. How long they spin is read before main(), so the program starts
 * itself again once, unless the user has set it.
 */
static void spin_less(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return;
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) return;
    path[length] = '\0';
    if (setenv("GOMP_SPINCOUNT", "10000", 1) == 0) execv(path, argv); /* else as it is */
}

int tsr_program__run(const tsr_program *p, int argc, char **argv)
{
    spin_less(argv);
    program = p;
    if (argc < 2) {
        print_help();
        return TSR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return TSR_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0 && p->version != NULL) {
        printf("%s %s\n", p->name, p->version);
        return TSR_EXIT_OK;
    }
    for (int i = 0; i < p->n_commands; i++) {
        if (strcmp(argv[1], p->commands[i].name) == 0) {
            return p->commands[i].run(argc - 1, argv + 1);
        }
    }
    tsr_nearest nearest = {.given = argv[1]};
    for (int i = 0; i < p->n_commands; i++) tsr_nearest__offer(&nearest, p->commands[i].name);
    fprintf(stderr, "%s: there is no command \"%.60s\"; ", p->name, argv[1]);
    if (nearest.name != NULL) fprintf(stderr, "did you mean %s? ", nearest.name);
    fprintf(stderr, "%s --help lists them\n", p->name);
    return TSR_EXIT_USAGE;
}

int tsr_main(int argc, char **argv, const tsr_recipe *const *recipes, int n)
{
    static const tsr_command commands[] = {TSR_RECIPE_COMMANDS};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    tsr_program p = {.name = argc == 0       ? ""
                             : slash != NULL ? slash + 1
                                             : argv[0],
                     .about = "Trains recipes of its own with the Tessera library.",
                     .commands = commands,
                     .n_commands = sizeof commands / sizeof commands[0],
                     .recipes = recipes,
                     .n_recipes = n};
    return tsr_program__run(&p, argc, argv);
}
