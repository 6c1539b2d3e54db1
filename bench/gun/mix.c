#include "bench/gun/mix.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/coap/message.h"

#define SHARE_MAX 1000000u

const char *const gun_kind_names[GUN_KINDS] = {"get", "post", "put", "delete", "observe", "block"};

static int kind_of(const char *name, size_t length)
{
    for (int kind = 0; kind < GUN_KINDS; kind++)
        if (strlen(gun_kind_names[kind]) == length &&
            strncasecmp(gun_kind_names[kind], name, length) == 0)
            return kind;
    return -1;
}

static int bad_mix(const char *text)
{
    fprintf(stderr,
            "coapgun: --mix %s: write shares of get, post, put, delete, observe and block, like "
            "get=80,post=20; try coapgun --help\n",
            text);
    return -EINVAL;
}

int mix_parse(const char *text, uint32_t shares[GUN_KINDS])
{
    const char *at = text;
    uint64_t sum = 0;

    memset(shares, 0, sizeof(*shares) * GUN_KINDS);
    for (;;) {
        size_t length = strcspn(at, "=,");
        int kind = kind_of(at, length);
        unsigned long share;
        char *end;

        if (kind < 0 || at[length] != '=' || !isdigit((unsigned char)at[length + 1]))
            return bad_mix(text);
        share = strtoul(at + length + 1, &end, 10);
        if (share > SHARE_MAX || shares[kind] || (*end && *end != ','))
            return bad_mix(text);
        shares[kind] = (uint32_t)share;
        sum += share;
        if (!*end)
            return sum ? 0 : bad_mix(text);
        at = end + 1;
    }
}

/* ---- paths ---- */

static const char *why_bad(const char *path)
{
    const char *number = strstr(path, "%u");

    if (path[0] != '/' && !strstr(path, "://"))
        return "write a path that begins with /, or a URI for a proxy";
    if (number && strstr(number + 2, "%u"))
        return "one %u at most";
    if (strlen(path) > 300)
        return "at most 300 bytes";
    return NULL;
}

int mix_add_path(struct gun_options *o, const char *text, uint32_t weight, int kind)
{
    struct gun_path *grown;

    if (o->path_count == GUN_PATHS_MAX)
        return -E2BIG;
    grown = realloc(o->paths, sizeof(*grown) * (o->path_count + 1));
    if (!grown)
        return -ENOMEM;
    o->paths = grown;
    grown[o->path_count].text = strdup(text);
    if (!grown[o->path_count].text)
        return -ENOMEM;
    grown[o->path_count].weight = weight;
    grown[o->path_count].kind = (int8_t)kind;
    o->path_count++;
    return why_bad(text) ? -EINVAL : 0;
}

static int bad_line(const char *file, unsigned line, const char *text, const char *why)
{
    fprintf(stderr, "coapgun: %s:%u: \"%s\": %s\n", file, line, text, why);
    return -EINVAL;
}

/* Up to three words, the last of which is the path. */
static int parse_line(struct gun_options *o, const char *file, unsigned line, char *text)
{
    char *words[4], *rest = text, *end;
    unsigned n = 0, next = 0;
    unsigned long weight = 1;
    int kind = -1, err;

    while (n < 4 && (words[n] = strtok_r(rest, " \t\r\n", &rest)))
        n++;
    if (n == 0)
        return 0;
    if (isdigit((unsigned char)words[0][0])) {
        weight = strtoul(words[next++], &end, 10);
        if (*end || weight == 0 || weight > SHARE_MAX)
            return bad_line(file, line, words[0], "write a weight from 1 to 1000000");
    }
    if (next + 1 < n) {
        kind = kind_of(words[next], strlen(words[next]));
        if (kind < 0)
            return bad_line(file, line, words[next],
                            "write GET, POST, PUT, DELETE, OBSERVE or BLOCK");
        next++;
    }
    if (next + 1 != n)
        return bad_line(file, line, words[0], "write [WEIGHT] [METHOD] PATH");
    err = mix_add_path(o, words[next], (uint32_t)weight, kind);
    if (err == -EINVAL)
        return bad_line(file, line, words[next], why_bad(words[next]));
    if (err)
        return bad_line(file, line, words[next], "too many paths, 1024 are the limit");
    return 0;
}

int mix_read_paths(struct gun_options *o, const char *file)
{
    FILE *in = fopen(file, "re");
    unsigned line = 0, before = o->path_count;
    char text[1024];
    int err = 0;

    if (!in) {
        err = -errno;
        fprintf(stderr, "coapgun: --paths %s: %s\n", file, strerror(-err));
        return err;
    }
    while (!err && fgets(text, sizeof(text), in)) {
        line++;
        if (!strchr(text, '\n') && !feof(in)) {
            err = bad_line(file, line, "...", "a line of at most 1022 bytes");
            break;
        }
        text[strcspn(text, "#")] = '\0';
        err = parse_line(o, file, line, text);
    }
    fclose(in);
    if (!err && o->path_count == before)
        err = bad_line(file, line, "", "no path in it");
    return err;
}

void mix_free_paths(struct gun_options *o)
{
    for (unsigned i = 0; i < o->path_count; i++)
        free(o->paths[i].text);
    free(o->paths);
    o->paths = NULL;
    o->path_count = 0;
}

/* ---- the plan ---- */

bool mix_path_is_for(const struct gun_options *o, unsigned path, unsigned kind)
{
    int8_t only = o->paths[path].kind;

    if (only >= 0)
        return only == (int)kind;
    return o->mix_given || kind == GUN_GET || (kind == GUN_OBSERVE && !o->mix[kind]);
}

/* What the paths say when there is no --mix: those without a method are for GET. */
static void mix_from_paths(struct gun_options *o)
{
    for (unsigned i = 0; i < o->path_count; i++)
        o->mix[o->paths[i].kind < 0 ? GUN_GET : o->paths[i].kind] += o->paths[i].weight;
}

static uint64_t weight_of(const struct gun_options *o, unsigned kind)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < o->path_count; i++)
        if (mix_path_is_for(o, i, kind))
            sum += o->paths[i].weight;
    return sum;
}

/* Entry k gets what covers the middle of its k-th part of all shares laid end to end: each share
 * then has its due number of entries, one more or less. */
static void lay_out(const struct gun_options *o, struct mix_entry *plan, double total)
{
    double upto = 0;
    unsigned k = 0;

    for (unsigned kind = 0; kind < GUN_KINDS; kind++) {
        double weight = (double)weight_of(o, kind);

        for (unsigned i = 0; i < o->path_count && o->mix[kind]; i++) {
            if (!mix_path_is_for(o, i, kind))
                continue;
            upto += (double)o->mix[kind] * o->paths[i].weight / weight;
            for (; k < MIX_PLAN_ENTRIES && (k + 0.5) * total / MIX_PLAN_ENTRIES < upto; k++)
                plan[k] = (struct mix_entry){
                    .path = (uint16_t)i, .kind = (uint8_t)kind, .type = TYPE_NON};
        }
    }
    /* Only rounding can leave the last one. */
    for (; k < MIX_PLAN_ENTRIES; k++)
        plan[k] = plan[k - 1];
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void shuffle(struct mix_entry *plan)
{
    uint32_t state = 1;

    for (unsigned i = MIX_PLAN_ENTRIES - 1; i > 0; i--) {
        unsigned other = next_random(&state) % (i + 1);
        struct mix_entry entry = plan[i];

        plan[i] = plan[other];
        plan[other] = entry;
    }
}

int mix_plan(struct gun_options *o, struct mix_entry plan[MIX_PLAN_ENTRIES])
{
    double total = 0;

    if (!o->mix_given)
        mix_from_paths(o);
    for (unsigned kind = 0; kind < GUN_KINDS; kind++) {
        total += o->mix[kind];
        if (o->mix[kind] && weight_of(o, kind) == 0) {
            fprintf(stderr, "coapgun: --mix has %s, and no path is for it\n", gun_kind_names[kind]);
            return -EINVAL;
        }
    }
    lay_out(o, plan, total);
    shuffle(plan);
    /* After the shuffle, so that each kind has its share of confirmable ones. */
    for (unsigned i = 0; i < MIX_PLAN_ENTRIES; i++)
        if ((i + 1) * o->con_percent / 100 > i * o->con_percent / 100)
            plan[i].type = TYPE_CON;
    return 0;
}
