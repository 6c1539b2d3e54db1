#include "tests/fuzz/seeds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes that a text of hex digits stands for, NULL when it is no such text. */
static uint8_t *unhex(const char *hex, size_t *length)
{
    size_t digits = strspn(hex, "0123456789abcdef");
    uint8_t *bytes;

    if (digits % 2 || hex[digits])
        return NULL;
    *length = digits / 2;
    bytes = malloc(*length ? *length : 1);
    for (size_t i = 0; bytes && i < *length; i++) {
        unsigned byte;

        sscanf(hex + 2 * i, "%2x", &byte);
        bytes[i] = (uint8_t)byte;
    }
    return bytes;
}

int seeds_each(const char *path,
               void (*each)(void *context, const char *name, const uint8_t *bytes, size_t length),
               void *context)
{
    FILE *table = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    int count = 0;

    if (!table) {
        int err = errno;

        fprintf(stderr, "%s: %s\n", path, strerror(err));
        return -err;
    }
    for (unsigned number = 1; count >= 0 && getline(&line, &room, table) > 0; number++) {
        char *rest = line, *name, *hex;
        uint8_t *bytes = NULL;
        size_t length;

        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || strncmp(line, "name\t", 5) == 0)
            continue;
        name = strsep(&rest, "\t");
        hex = strsep(&rest, "\t");
        if (hex)
            bytes = unhex(hex, &length);
        if (bytes) {
            each(context, name, bytes, length);
            count++;
        } else {
            fprintf(stderr, "%s:%u: not a name, a tab and hex digits\n", path, number);
            count = -EINVAL;
        }
        free(bytes);
    }
    free(line);
    fclose(table);
    return count;
}
