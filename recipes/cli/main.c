/* tessera: the program. */
#include "recipes/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_command commands[] = {
    {"pretrain", "train a backbone on images without labels", cli_pretrain},
    {"plan", "what a run will take: memory, arithmetic, time", cli_plan},
    {"data", "what a data set is, and what a recipe makes of its images", cli_data},
    {"knn", "what features are worth: weighted nearest neighbours", cli_knn},
    {"linear", "what features are worth: a linear probe, or logistic regression", cli_linear},
    {"features", "write the embeddings of images", cli_features},
    {"attention", "draw where the class token looks in an image", cli_attention},
    {"inspect", "list what is in a checkpoint, and verify it", cli_inspect},
    {"gradcheck", "check the derivatives of all operators", cli_gradcheck},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("Usage: tessera COMMAND ... (tessera COMMAND --help explains one)\n\n"
           "Self-supervised vision learning on CPUs.\n\nCommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    printf("\nFirst steps:\n"
           "  tessera pretrain ibot --data IMAGES --out RUN\n"
           "  tessera knn RUN --data IMAGES\n");
}

/*
 * gcc's OpenMP lets idle threads spin for milliseconds before they sleep. Loader threads, and other programs, then wait for
 * them: on a busy machine a step takes ten times as long. How long they spin is read before main(), so the program starts
 * itself again once, unless the user has set it.
 */
static void spin_less(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return;
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) return;
    program[length] = '\0';
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv(program, argv); /* else as it is */
}

int main(int argc, char **argv)
{
    spin_less(argv);
    if (argc < 2) {
        print_help();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("tessera %s\n", TSR_VERSION);
        return CLI_OK;
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "tessera: there is no command \"%.60s\"; tessera --help lists them\n", argv[1]);
    return CLI_USAGE;
}
