/* What the program's commands share. */
#ifndef TSR_CLI_H
#define TSR_CLI_H

#include "recipes/recipes.h"

/* A command gets the arguments after its name, and returns the exit status: 0, 1 (it failed), 2 (usage). */
typedef struct cli_command {
    const char *name;
    const char *summary; /* one line of `tessera --help` */
    int (*run)(int argc, char **argv);
} cli_command;

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* A flag of a command besides option tables. Text flags point at a const char *, the others at what their type says. */
typedef struct cli_flag {
    const char *name; /* "out" */
    enum { CLI_TEXT, CLI_INT, CLI_DOUBLE, CLI_SWITCH } type;
    void *value;          /* const char ** , int64_t *, double *, bool * */
    const char *argument; /* "DIR": in --help; NULL for a switch */
    const char *meaning;
} cli_flag;

/* A table of options beside the flags, and where it goes. */
typedef struct cli_table {
    const char *title; /* "Training" */
    const tsr_option *at;
    int n;
    void *options;
    bool given[96]; /* set for those that the user gave */
} cli_table;

typedef struct cli_arguments {
    const char *usage;       /* "tessera knn CHECKPOINT --data DIR [options]" */
    const char *description; /* a paragraph of --help */
    const cli_flag *flags;
    int n_flags;
    cli_table *tables;
    int n_tables;
    const char *positional[4]; /* what was given beside flags */
    int n_positional, min_positional, max_positional;
} cli_arguments;

/* -1: go on; else the exit status (--help was printed, or usage was wrong and said so). `--threads N` is understood everywhere. */
int cli_parse(cli_arguments *arguments, int argc, char **argv);
/* Prints the sticky status as `tessera: message`, and returns the exit status that fits it. */
int cli_report(void);

int cli_pretrain(int argc, char **argv);

#endif
