#include "config/document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "config/place.h"

struct reader {
    yaml_parser_t parser;
    struct report *report;
    const char *text;
    size_t length;
};

/* ---- UTF-8 (RFC 3629) ---- */

/* Bytes of the sequence that `text` starts with, 0 when it is not UTF-8. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length;
    unsigned code;

    if (text[0] < 0x80)
        return 1;
    length = (text[0] & 0xe0) == 0xc0   ? 2
             : (text[0] & 0xf0) == 0xe0 ? 3
             : (text[0] & 0xf8) == 0xf0 ? 4
                                        : 0;
    if (length == 0 || length > left)
        return 0;
    code = text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    return length;
}

static unsigned line_at(const char *text, size_t offset)
{
    unsigned line = 1;

    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return line;
}

static int check_utf8(struct reader *r)
{
    size_t i = 0;

    while (i < r->length) {
        size_t length = utf8_length((const unsigned char *)r->text + i, r->length - i);

        if (length == 0) {
            report_error(r->report, line_at(r->text, i), "syntax",
                         "byte 0x%02x is not UTF-8; save the file in UTF-8",
                         (unsigned char)r->text[i]);
            return -EINVAL;
        }
        i += length;
    }
    return 0;
}

/* ---- events ---- */

static int fail(struct reader *r, const yaml_event_t *event, const char *what)
{
    report_error(r->report, (unsigned)event->start_mark.line + 1, "syntax", "%s", what);
    return -EINVAL;
}

static int out_of_memory(struct reader *r)
{
    report_error(r->report, 0, "file", "cannot be read: out of memory; free some");
    return -ENOMEM;
}

static int fail_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "this is not YAML";
    unsigned line = (unsigned)p->problem_mark.line + 1;

    if (p->error == YAML_MEMORY_ERROR)
        return out_of_memory(r);
    if (p->error == YAML_READER_ERROR)
        line = line_at(r->text, p->problem_offset < r->length ? p->problem_offset : r->length);
    if (p->context)
        report_error(r->report, line, "syntax",
                     "%s (%s that began on line %zu); check indentation, quotes and brackets",
                     problem, p->context, p->context_mark.line + 1);
    else
        report_error(r->report, line, "syntax", "%s; check indentation, quotes and brackets",
                     problem);
    return -EINVAL;
}

static int next(struct reader *r, yaml_event_t *event)
{
    return yaml_parser_parse(&r->parser, event) ? 0 : fail_parser(r);
}

/* ---- nodes ---- */

static struct node *add_child(struct node *parent)
{
    if (parent->count == parent->room) {
        unsigned room = parent->room ? parent->room * 2 : 8;
        struct node *grown = reallocarray(parent->children, room, sizeof(*grown));

        if (!grown)
            return NULL;
        parent->children = grown;
        parent->room = room;
    }
    memset(&parent->children[parent->count], 0, sizeof(*parent->children));
    return &parent->children[parent->count++];
}

static int refuse_extras(struct reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
                         const yaml_char_t *tag)
{
    if (anchor)
        return fail(r, event, "anchors (&) are not supported; write the value where it is used");
    if (tag)
        return fail(r, event, "tags (!) are not supported; write the plain value");
    return 0;
}

/* The text of a scalar in *text, to be freed by the caller. */
static int copy_scalar(struct reader *r, const yaml_event_t *event, char **text)
{
    int err = refuse_extras(r, event, event->data.scalar.anchor, event->data.scalar.tag);

    if (err)
        return err;
    if (memchr(event->data.scalar.value, 0, event->data.scalar.length))
        return fail(r, event, "a zero byte is not supported; remove \\0");
    *text = strndup((const char *)event->data.scalar.value, event->data.scalar.length);
    return *text ? 0 : out_of_memory(r);
}

static int read_node(struct reader *r, const yaml_event_t *event, struct node *node,
                     unsigned depth);

static int read_entry(struct reader *r, yaml_event_t *event, struct node *node, unsigned depth)
{
    struct node *child = add_child(node);
    yaml_event_t value;
    int err;

    if (!child)
        return out_of_memory(r);
    if (node->kind == NODE_SEQUENCE)
        return read_node(r, event, child, depth);
    if (event->type == YAML_ALIAS_EVENT)
        return read_node(r, event, child, depth);
    if (event->type != YAML_SCALAR_EVENT)
        return fail(r, event, "a key must be a single word; write KEY: VALUE");
    child->line = (unsigned)event->start_mark.line + 1;
    err = copy_scalar(r, event, &child->key);
    if (err)
        return err;
    err = next(r, &value);
    if (err)
        return err;
    err = read_node(r, &value, child, depth);
    yaml_event_delete(&value);
    return err;
}

/* The children of a list or mapping, up to its end. */
static int read_children(struct reader *r, struct node *node, unsigned depth)
{
    yaml_event_t event;
    int err;

    for (;;) {
        err = next(r, &event);
        if (err)
            return err;
        if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return 0;
        }
        err = read_entry(r, &event, node, depth);
        yaml_event_delete(&event);
        if (err)
            return err;
    }
}

static int read_collection(struct reader *r, const yaml_event_t *event, struct node *node,
                           unsigned depth)
{
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    int err = list ? refuse_extras(r, event, event->data.sequence_start.anchor,
                                   event->data.sequence_start.tag)
                   : refuse_extras(r, event, event->data.mapping_start.anchor,
                                   event->data.mapping_start.tag);

    if (err)
        return err;
    if (depth == DOCUMENT_DEPTH_MAX)
        return fail(r, event, "lists and mappings are nested too deeply; close some brackets");
    node->kind = list ? NODE_SEQUENCE : NODE_MAPPING;
    return read_children(r, node, depth + 1);
}

static int read_node(struct reader *r, const yaml_event_t *event, struct node *node, unsigned depth)
{
    if (!node->key)
        node->line = (unsigned)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        node->kind = NODE_SCALAR;
        node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return copy_scalar(r, event, &node->text);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return read_collection(r, event, node, depth);
    case YAML_ALIAS_EVENT:
        return fail(r, event, "aliases (*) are not supported; write the value itself");
    default:
        return fail(r, event, "a value is missing; write one or remove the key");
    }
}

/* ---- the document ---- */

static int expect_end(struct reader *r)
{
    yaml_event_t event;
    int err;

    do {
        err = next(r, &event);
        if (err)
            return err;
        if (event.type == YAML_DOCUMENT_START_EVENT)
            err = fail(r, &event, "a second document begins; remove it and the line of ---");
        if (event.type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            return 0;
        }
        yaml_event_delete(&event);
    } while (!err);
    return err;
}

static int read_document(struct reader *r, struct node *root)
{
    yaml_event_t event;
    int err;

    do {
        err = next(r, &event);
        if (err)
            return err;
        if (event.type == YAML_STREAM_END_EVENT) {
            report_error(r->report, 1, "file", "is empty; start from the example coapgw.yaml");
            err = -EINVAL;
        } else if (event.type != YAML_STREAM_START_EVENT &&
                   event.type != YAML_DOCUMENT_START_EVENT) {
            err = read_node(r, &event, root, 0);
            yaml_event_delete(&event);
            return err ? err : expect_end(r);
        }
        yaml_event_delete(&event);
    } while (!err);
    return err;
}

int document_parse(const char *text, size_t length, struct report *report, struct node *root)
{
    struct reader r = {.report = report, .text = text, .length = length};
    int err = check_utf8(&r);

    memset(root, 0, sizeof(*root));
    if (err)
        return err;
    if (!yaml_parser_initialize(&r.parser))
        return out_of_memory(&r);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
    err = read_document(&r, root);
    yaml_parser_delete(&r.parser);
    if (err)
        document_free(root);
    return err;
}

void document_free(struct node *root)
{
    for (unsigned i = 0; i < root->count; i++)
        document_free(&root->children[i]);
    free(root->children);
    free(root->key);
    free(root->text);
    memset(root, 0, sizeof(*root));
}

const struct node *node_find(const struct node *mapping, const char *key)
{
    if (mapping->kind != NODE_MAPPING)
        return NULL;
    for (unsigned i = 0; i < mapping->count; i++)
        if (mapping->children[i].key && strcmp(mapping->children[i].key, key) == 0)
            return &mapping->children[i];
    return NULL;
}
