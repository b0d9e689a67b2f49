/* tessera: the program. */
#include "recipes/cli/cli.h"

static const cli_command commands[] = {
    CLI_RECIPE_COMMANDS,
    {"finetune", "train a checkpoint's backbone on, with labels", cli_finetune},
    {"data", "what a data set is, and what a recipe makes of its images", cli_data},
    {"cluster", "what prototypes are worth: unsupervised classification", cli_cluster},
    {"features", "write the embeddings of images", cli_features},
    {"attention", "draw where the class token looks in an image", cli_attention},
    {"import", "make a checkpoint of a network trained elsewhere", cli_import},
    {"export", "write a backbone as ONNX, safetensors or for PyTorch", cli_export},
    {"inspect", "list what is in a checkpoint, and verify it", cli_inspect},
    {"gradcheck", "check the derivatives of all operators", cli_gradcheck},
};

int main(int argc, char **argv)
{
    cli_program program = {.name = "tessera",
                           .about = "Self-supervised vision learning on CPUs.",
                           .version = TSR_VERSION,
                           .commands = commands,
                           .n_commands = sizeof commands / sizeof commands[0]};
    program.recipes = tsr_recipes(&program.n_recipes);
    return cli_main(&program, argc, argv);
}
