/* The structure of a document against libcyaml's tables, with the line of each error. */
#include "config/schema.h"

#include <string.h>

#define LIST_BYTES 512

/* ---- suggestions ---- */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

#define WORD_MAX 32

/* Levenshtein's distance; words above WORD_MAX are far from everything. */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned row[WORD_MAX + 1], diagonal, above;

    if (la > WORD_MAX || lb > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            above = row[j];
            row[j] = least(row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[lb];
}

/* The key that was probably meant, or NULL: at most a third of it is different. */
static const char *nearest_key(const cyaml_schema_field_t *fields, const char *key)
{
    const char *best = NULL;
    unsigned best_distance = WORD_MAX;

    for (; fields->key; fields++) {
        unsigned d = distance(key, fields->key);

        if (d < best_distance && d <= (strlen(fields->key) + 1) / 3) {
            best_distance = d;
            best = fields->key;
        }
    }
    return best;
}

/* ---- lists of words for messages ---- */

static void append(char list[LIST_BYTES], const char *word, bool last)
{
    size_t length = strlen(list);

    snprintf(list + length, LIST_BYTES - length, "%s%s",
             length == 0 ? ""
             : last      ? " or "
                         : ", ",
             word);
}

static const char *list_keys(const cyaml_schema_field_t *fields, char list[LIST_BYTES])
{
    list[0] = '\0';
    for (; fields->key; fields++)
        append(list, fields->key, !fields[1].key);
    return list;
}

static const char *list_words(const cyaml_schema_value_t *schema, char list[LIST_BYTES])
{
    uint32_t count = schema->enumeration.count;

    list[0] = '\0';
    for (uint32_t i = 0; i < count; i++)
        append(list, schema->enumeration.strings[i].str, i + 1 == count);
    return list;
}

/* ---- values ---- */

static void check_value(const struct place *at, const cyaml_schema_value_t *schema);

static const char *kind_name(const struct node *node)
{
    return node->kind == NODE_SEQUENCE  ? "a list"
           : node->kind == NODE_MAPPING ? "a mapping"
                                        : "a value";
}

/* True when there is a text to look at; it may be empty. */
static bool expect_scalar(const struct place *at)
{
    if (at->node->kind != NODE_SCALAR) {
        place_error(at, "is %s; write a single value", kind_name(at->node));
        return false;
    }
    if (at->node->plain && at->node->text[0] == '\0') {
        place_error(at, "has no value; write one or remove the key");
        return false;
    }
    return true;
}

static void check_string(const struct place *at, const cyaml_schema_value_t *schema)
{
    size_t length;

    if (!expect_scalar(at))
        return;
    length = strlen(at->node->text);
    if (length < schema->string.min)
        place_error(at, "is empty; write a value or remove the key");
    else if (length > schema->string.max)
        place_error(at, "has %zu bytes; write at most %u", length, schema->string.max);
}

static void check_word(const struct place *at, const cyaml_schema_value_t *schema)
{
    char list[LIST_BYTES];

    if (!expect_scalar(at))
        return;
    for (uint32_t i = 0; i < schema->enumeration.count; i++)
        if (strcmp(at->node->text, schema->enumeration.strings[i].str) == 0)
            return;
    place_error(at, "\"%.80s\" is not known; write %s", at->node->text, list_words(schema, list));
}

static void check_bool(const struct place *at)
{
    if (expect_scalar(at) && strcmp(at->node->text, "true") != 0 &&
        strcmp(at->node->text, "false") != 0)
        place_error(at, "\"%.80s\" is not known; write true or false", at->node->text);
}

static void check_sequence(const struct place *at, const cyaml_schema_value_t *schema)
{
    const struct node *node = at->node;

    if (node->kind != NODE_SEQUENCE) {
        place_error(at, "is %s; write a list, each entry on a line that begins with \"- \"",
                    node->kind == NODE_SCALAR && !node->text[0] ? "empty" : kind_name(node));
        return;
    }
    if (node->count < schema->sequence.min)
        place_error(at, "is empty; write at least %u", schema->sequence.min);
    if (node->count > schema->sequence.max) {
        place_error(at, "has %u entries; write at most %u", node->count, schema->sequence.max);
        return;
    }
    for (unsigned i = 0; i < node->count; i++) {
        struct place entry = place_entry(at, i);

        check_value(&entry, schema->sequence.entry);
    }
}

/* ---- mappings ---- */

static const cyaml_schema_field_t *find_field(const cyaml_schema_field_t *fields, const char *key)
{
    for (; fields->key; fields++)
        if (strcmp(fields->key, key) == 0)
            return fields;
    return NULL;
}

/* The place of child `i`, also when the key is there twice. */
static struct place place_child(const struct place *mapping, unsigned i)
{
    const struct node *child = &mapping->node->children[i];
    struct place at = place_key(mapping, child->key);

    at.node = child;
    at.line = child->line;
    return at;
}

static void unknown_key(const struct place *at, const cyaml_schema_field_t *fields)
{
    const char *near = nearest_key(fields, at->key);
    char list[LIST_BYTES];

    if (near || !fields[1].key)
        place_error(at, "is not a known key; write %s", near ? near : fields->key);
    else
        place_error(at, "is not a known key; write one of %s", list_keys(fields, list));
}

static void check_present(const struct place *at, const cyaml_schema_field_t *fields)
{
    unsigned seen[64] = {0}; /* the line of each key, by its number in the table */

    for (unsigned i = 0; i < at->node->count; i++) {
        struct place child = place_child(at, i);
        const cyaml_schema_field_t *field = find_field(fields, child.key);

        if (!field) {
            unknown_key(&child, fields);
            continue;
        }
        if (seen[field - fields]) {
            place_error(&child, "is there twice, first on line %u; remove one of them",
                        seen[field - fields]);
            continue;
        }
        seen[field - fields] = child.line;
        check_value(&child, &field->value);
    }
    for (unsigned i = 0; fields[i].key; i++)
        if (!seen[i] && !(fields[i].value.flags & CYAML_FLAG_OPTIONAL))
            key_error(at, fields[i].key, "is missing; add it");
}

static void check_mapping(const struct place *at, const cyaml_schema_value_t *schema)
{
    bool or_none = schema->flags & SCHEMA_OR_NONE;
    bool scalar = at->node->kind == NODE_SCALAR;
    char list[LIST_BYTES];

    if (at->node->kind == NODE_MAPPING)
        check_present(at, schema->mapping.fields);
    else if (!or_none || !scalar || strcmp(at->node->text, "none") != 0)
        place_error(at, "is %s; write %sa mapping with the key%s %s",
                    scalar && !at->node->text[0] ? "empty" : kind_name(at->node),
                    or_none ? "none, or " : "", schema->mapping.fields[1].key ? "s" : "",
                    list_keys(schema->mapping.fields, list));
}

static void check_value(const struct place *at, const cyaml_schema_value_t *schema)
{
    switch (schema->type) {
    case CYAML_MAPPING:
        check_mapping(at, schema);
        break;
    case CYAML_SEQUENCE:
        check_sequence(at, schema);
        break;
    case CYAML_ENUM:
        check_word(at, schema);
        break;
    case CYAML_BOOL:
        check_bool(at);
        break;
    default: /* all others are texts */
        check_string(at, schema);
        break;
    }
}

void schema_check(const struct place *root)
{
    check_value(root, &config_schema);
}
