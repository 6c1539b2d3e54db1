#include "config/place.h"

#include <stdarg.h>
#include <string.h>
#include <strings.h>

#define PATH_BYTES    256
#define MESSAGE_BYTES 1024

struct place place_root(struct report *report, const struct node *node)
{
    return (struct place){.report = report, .node = node, .line = node->line};
}

static struct place inside(const struct place *parent, const struct node *node)
{
    return (struct place){.report = parent->report,
                          .parent = parent,
                          .node = node,
                          .line = node ? node->line : parent->line};
}

struct place place_key(const struct place *parent, const char *key)
{
    struct place at = inside(parent, parent->node ? node_find(parent->node, key) : NULL);

    at.key = key;
    return at;
}

struct place place_entry(const struct place *parent, unsigned index)
{
    const struct node *list = parent->node;
    bool there = list && list->kind == NODE_SEQUENCE && index < list->count;
    struct place at = inside(parent, there ? &list->children[index] : NULL);

    at.index = index;
    return at;
}

static void print_path(const struct place *at, FILE *out)
{
    if (!at->parent)
        return;
    print_path(at->parent, out);
    if (at->key)
        fprintf(out, "%s%s", at->parent->parent ? "." : "", at->key);
    else
        fprintf(out, "[%u]", at->index);
}

/* The length of "redis://" or "rediss://" at `text`, 0 when it does not begin so, and for the URL
 * that messages show. */
static size_t url_scheme(const char *text)
{
    static const char *const schemes[] = {"redis://", "rediss://"};

    if (strncmp(text, REDIS_URL_SHOWN, strlen(REDIS_URL_SHOWN)) == 0)
        return 0;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            return strlen(schemes[i]);
    return 0;
}

/* Where the value ends that `text` is in. It may hold quotation marks itself, or have been cut off:
 * rather too much is masked than a letter of a password shown. */
static const char *value_end(const char *text)
{
    const char *quote = strrchr(text, '"');

    return quote ? quote : text + strlen(text);
}

/* A value from the file may hold anything; an error stays one line of text. */
static void print_escaped(const char *text, FILE *out)
{
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        size_t scheme = url_scheme(p);

        if (scheme) {
            fprintf(out, "%.*s***", (int)scheme, p);
            p = value_end(p + scheme) - 1;
            continue;
        }
        if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            putc(c, out);
    }
}

/* False when there have been enough. */
static bool begin(struct report *report, unsigned line)
{
    if (report->errors++ >= REPORT_MAX) {
        if (report->errors == REPORT_MAX + 1)
            fprintf(report->out, "%s: more errors are not shown; correct these first\n",
                    report->file);
        return false;
    }
    print_escaped(report->file, report->out);
    if (line)
        fprintf(report->out, ":%u", line);
    fputs(": ", report->out);
    return true;
}

static void finish(struct report *report, const char *what, const char *message)
{
    print_escaped(what, report->out);
    fputs(": ", report->out);
    print_escaped(message, report->out);
    putc('\n', report->out);
}

static void say(const struct place *at, const char *message)
{
    char path[PATH_BYTES] = "";
    FILE *memory;

    if (!begin(at->report, at->line))
        return;
    memory = fmemopen(path, sizeof(path), "w");
    if (memory) {
        print_path(at, memory);
        fclose(memory);
    }
    path[sizeof(path) - 1] = '\0';
    finish(at->report, path[0] ? path : "file", message);
}

void place_error(const struct place *at, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    say(at, message);
}

void key_error(const struct place *parent, const char *key, const char *format, ...)
{
    struct place at = place_key(parent, key);
    char message[MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    say(&at, message);
}

void report_error(struct report *report, unsigned line, const char *what, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    if (begin(report, line))
        finish(report, what, message);
}
