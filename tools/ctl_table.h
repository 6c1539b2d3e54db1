/* JSON for people: tables and lists. */
#ifndef COAPGW_TOOLS_CTL_TABLE_H
#define COAPGW_TOOLS_CTL_TABLE_H

#include <jansson.h>

struct column {
    const char *title, *key; /* a member of each row; the list ends with a title of NULL */
};

/* An array of objects: one line for each, under the titles. What a row does not have is "-". */
void table_print(const json_t *rows, const struct column *columns);

/* An object: one line for each member that is no array and no object; members of such an object
 * are set in. */
void table_print_members(const json_t *object);

#endif
