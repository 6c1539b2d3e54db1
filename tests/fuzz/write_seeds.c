/* Turns tables of seeds into the files that libFuzzer starts from:
 *
 *   write_seeds FOLDER TABLE.tsv...
 */
#include <stdbool.h>
#include <stdio.h>

#include "tests/fuzz/seeds.h"

struct folder {
    const char *path;
    bool failed;
};

static void write_seed(void *context, const char *name, const uint8_t *bytes, size_t length)
{
    struct folder *folder = context;
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/seed-%s", folder->path, name);
    file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, length, file) != length) {
        perror(path);
        folder->failed = true;
    }
    if (file && fclose(file) != 0)
        folder->failed = true;
}

int main(int argc, char **argv)
{
    struct folder folder = {.path = argc > 1 ? argv[1] : ""};

    if (argc < 3) {
        fprintf(stderr, "write_seeds FOLDER TABLE.tsv...\n");
        return 2;
    }
    for (int i = 2; i < argc && !folder.failed; i++)
        if (seeds_each(argv[i], write_seed, &folder) < 0)
            folder.failed = true;
    return folder.failed ? 1 : 0;
}
