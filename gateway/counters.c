#include "gateway/counters.h"

#include <string.h>

struct row {
    const char *name, *meaning;
    size_t offset;
};

static const struct row rows[] = {
#define X(name, meaning) {#name, meaning, offsetof(struct counters, name)},
    COUNTERS_DEVICE(X) COUNTERS_CORE(X)
#undef X
};

static const char *const type_names[] = {"con", "non", "ack", "rst"};

typedef void visitor(void *context, const char *name, const char *meaning, uint64_t value);

static uint64_t load(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void visit_codes(const uint64_t *codes, const char *prefix, const char *meaning,
                        visitor *each, void *context)
{
    char name[32];

    for (unsigned code = 0; code < 256; code++) {
        snprintf(name, sizeof(name), "%s%u.%02u", prefix, code_class((uint8_t)code),
                 code_detail((uint8_t)code));
        each(context, name, meaning, load(&codes[code]));
    }
}

static void visit_verdicts(const struct counters *c, visitor *each, void *context)
{
    char name[64];

    for (unsigned v = 0; v < VERDICT_COUNT; v++) {
        snprintf(name, sizeof(name), "rx_verdict_%s", message_verdict_name(v));
        for (char *p = name; *p; p++)
            if (*p == '-')
                *p = '_';
        each(context, name, "datagrams that the parser found to be so", load(&c->rx_verdict[v]));
    }
}

void counters_visit(const struct counters *c, visitor *each, void *context)
{
    char name[32];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        each(context, rows[i].name, rows[i].meaning,
             load((const uint64_t *)(const void *)((const char *)c + rows[i].offset)));
    for (unsigned type = 0; type < 4; type++) {
        snprintf(name, sizeof(name), "rx_%s", type_names[type]);
        each(context, name, "messages of this type received", load(&c->rx_type[type]));
        snprintf(name, sizeof(name), "tx_%s", type_names[type]);
        each(context, name, "messages of this type sent", load(&c->tx_type[type]));
    }
    visit_verdicts(c, each, context);
    visit_codes(c->rx_code, "rx_code_", "messages with this code received", each, context);
    visit_codes(c->tx_code, "tx_code_", "messages with this code sent", each, context);
}

void counters_add(struct counters *sum, const struct counters *from)
{
    uint64_t *to = (uint64_t *)(void *)sum;
    const uint64_t *values = (const uint64_t *)(const void *)from;

    for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
        to[i] += load(&values[i]);
}

struct printer {
    const char *prefix;
    FILE *out;
};

static void print_one(void *context, const char *name, const char *meaning, uint64_t value)
{
    const struct printer *p = context;

    (void)meaning;
    if (value)
        fprintf(p->out, "%s %s %llu\n", p->prefix, name, (unsigned long long)value);
}

void counters_print(const struct counters *c, const char *prefix, FILE *out)
{
    struct printer p = {prefix, out};

    counters_visit(c, print_one, &p);
}
