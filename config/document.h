/* A YAML file as a tree whose nodes know their lines.
 *
 * libcyaml gives values but not where they stand, and stops at the first error. The tree is read
 * beside it, with libyaml: the structure is checked against libcyaml's own tables on it (check.h),
 * and errors in values find their line in it (place.h).
 *
 * A document owns its nodes and their text. Any thread. */
#ifndef COAPGW_CONFIG_DOCUMENT_H
#define COAPGW_CONFIG_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>

struct report;

#define DOCUMENT_DEPTH_MAX 16 /* nesting of lists and mappings */

enum node_kind { NODE_SCALAR, NODE_SEQUENCE, NODE_MAPPING };

struct node {
    enum node_kind kind;
    unsigned line; /* from 1; in a mapping, of the key */
    bool plain;    /* a scalar without quotes */
    char *key;     /* in a mapping, NULL otherwise */
    char *text;    /* of a scalar, without zero bytes */
    struct node *children;
    unsigned count, room;
};

/* Reads one document of `length` bytes. 0, or -EINVAL with errors reported: not UTF-8, not YAML,
 * empty, several documents, anchors, aliases, tags, zero bytes, too deep; -ENOMEM, reported too. */
int document_parse(const char *text, size_t length, struct report *report, struct node *root);
void document_free(struct node *root);

/* NULL when the mapping does not have it, or is no mapping. */
const struct node *node_find(const struct node *mapping, const char *key);

#endif
