/* tessera: the program. */
#include "recipes/cli/cli.h"

static const tsr_command commands[] = {
    TSR_RECIPE_COMMANDS,
    {"finetune", "train a checkpoint's backbone on, with labels", tsr_command__finetune},
    {"data", "what a data set is, and what a recipe makes of its images", tsr_command__data},
    {"cluster", "what prototypes are worth: unsupervised classification", tsr_command__cluster},
    {"features", "write the embeddings of images", tsr_command__features},
    {"attention", "draw where the class token looks in an image", tsr_command__attention},
    {"import", "make a checkpoint of a network trained elsewhere", tsr_command__import},
    {"export", "write a backbone as ONNX, safetensors or for PyTorch", tsr_command__export},
    {"inspect", "list what is in a checkpoint, and verify it", tsr_command__inspect},
    {"gradcheck", "check the derivatives of all operators", tsr_command__gradcheck},
};

int main(int argc, char **argv)
{
    tsr_program program = {.name = "tessera",
                           .about = "Self-supervised vision learning on CPUs.",
                           .version = TSR_VERSION,
                           .commands = commands,
                           .n_commands = sizeof commands / sizeof commands[0]};
    program.recipes = tsr_recipes(&program.n_recipes);
    return tsr_program__run(&program, argc, argv);
}
