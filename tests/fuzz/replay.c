/* Runs a fuzz target once over each seed, without libFuzzer and with any compiler:
 *
 *   NAME_replay TABLE.tsv... FILE...
 *
 * A file whose name does not end in .tsv is one input as it is: what a fuzzer found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/seeds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Not every target has one. */
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static void run_seed(void *context, const char *name, const uint8_t *bytes, size_t length)
{
    (void)context;
    printf("%s\n", name);
    fflush(stdout); /* the last line names the seed that crashed */
    LLVMFuzzerTestOneInput(bytes, length);
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    long length;

    if (!file || fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0) {
        perror(path);
        if (file)
            fclose(file);
        return -1;
    }
    rewind(file);
    bytes = malloc(length ? (size_t)length : 1);
    if (bytes && fread(bytes, 1, (size_t)length, file) == (size_t)length) {
        run_seed(NULL, path, bytes, (size_t)length);
        length = 1;
    } else {
        fprintf(stderr, "%s: could not be read\n", path);
        length = -1;
    }
    free(bytes);
    fclose(file);
    return (int)length;
}

int main(int argc, char **argv)
{
    int total = 0;

    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        const char *dot = strrchr(argv[i], '.');
        int n = dot && strcmp(dot, ".tsv") == 0 ? seeds_each(argv[i], run_seed, NULL)
                                                : run_file(argv[i]);

        if (n <= 0) {
            fprintf(stderr, "%s: no input in it\n", argv[i]);
            return 1;
        }
        total += n;
    }
    printf("%d inputs\n", total);
    return total ? 0 : 1;
}
