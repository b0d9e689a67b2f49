/*
 * Runs a fuzz target over files, without libFuzzer: the arguments are files and folders of files.
 * As a test it replays the corpus; with the path of a crash it is the debugger's way in.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int inputs;

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = NULL;
    size_t bytes = 0, room = 0, got;
    do {
        if (bytes == room) {
            room = room > 0 ? 2 * room : 65536;
            uint8_t *grown = realloc(data, room);
            if (grown == NULL) abort();
            data = grown;
        }
        got = fread(data + bytes, 1, room - bytes, file);
        bytes += got;
    } while (got > 0);
    fclose(file);
    /* Exactly as many bytes as the input has, so that a sanitizer sees a read beyond them. */
    uint8_t *exact = malloc(bytes > 0 ? bytes : 1);
    if (exact == NULL) abort();
    memcpy(exact, data, bytes);
    free(data);
    LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    inputs++;
    return 0;
}

static int run(const char *path)
{
    DIR *folder = opendir(path);
    if (folder == NULL) return run_file(path);
    int failed = 0;
    struct dirent *item;
    while ((item = readdir(folder)) != NULL) {
        if (item->d_name[0] == '.') continue;
        char child[4096];
        snprintf(child, sizeof child, "%s/%s", path, item->d_name);
        failed |= run(child);
    }
    closedir(folder);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) failed |= run(argv[i]);
    printf("%d inputs\n", inputs);
    return failed != 0 || inputs == 0;
}
