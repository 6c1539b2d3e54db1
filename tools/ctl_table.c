#include "tools/ctl_table.h"

#include <stdio.h>
#include <string.h>

#define CELL_BYTES  2048
#define COLUMNS_MAX 16

static const char *cell(const json_t *value, char text[CELL_BYTES])
{
    if (json_is_string(value))
        snprintf(text, CELL_BYTES, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, CELL_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, CELL_BYTES, "%.10g", json_real_value(value));
    else if (json_is_boolean(value))
        strcpy(text, json_is_true(value) ? "yes" : "no");
    else
        strcpy(text, "-");
    return text[0] ? text : strcpy(text, "-");
}

static void print_line(const json_t *row, const struct column *columns, const int *widths)
{
    char text[CELL_BYTES];

    for (unsigned c = 0; columns[c].title; c++) {
        const char *what =
            row ? cell(json_object_get(row, columns[c].key), text) : columns[c].title;

        /* The last one is not filled up. */
        printf("%s%-*s", c ? "  " : "", columns[c + 1].title ? widths[c] : 0, what);
    }
    putchar('\n');
}

void table_print(const json_t *rows, const struct column *columns)
{
    int widths[COLUMNS_MAX] = {0};
    char text[CELL_BYTES];

    for (unsigned c = 0; columns[c].title; c++) {
        widths[c] = (int)strlen(columns[c].title);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            const int width = (int)strlen(cell(json_object_get(row, columns[c].key), text));

            if (width > widths[c])
                widths[c] = width;
        }
    }
    print_line(NULL, columns, widths);
    for (size_t i = 0; i < json_array_size(rows); i++)
        print_line(json_array_get(rows, i), columns, widths);
}

static void print_members(const json_t *object, const char *indent)
{
    json_t *members = (json_t *)object; /* the iterator's type, which changes nothing */
    char text[CELL_BYTES];

    for (void *i = json_object_iter(members); i; i = json_object_iter_next(members, i)) {
        const json_t *value = json_object_iter_value(i);
        const char *name = json_object_iter_key(i);

        if (json_is_object(value)) {
            printf("%s%s:\n", indent, name);
            print_members(value, "  ");
        } else if (!json_is_array(value)) {
            printf("%s%s: %s\n", indent, name, cell(value, text));
        }
    }
}

void table_print_members(const json_t *object)
{
    print_members(object, "");
}
