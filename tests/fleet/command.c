/* Commands: one line on stdin, one line of JSON on stdout when it is done.
 *
 *   run                   devices follow their whims
 *   calm MS               no more whims; done when nothing is under way
 *   open WINDOW           every watch that is idle registers, so many at a time
 *   connect WINDOW        every device does its handshake, so many at a time
 *   touch WINDOW          every device sends a plain GET, so many at a time
 *   down gateway          it has been killed: all accepted relations are owed a notification
 *   down store            from now on it may not have all that the gateway has
 *   up store              it has
 *   heard MS              done when nobody is owed a notification
 *   expect STATE MS       done when all accepted relations have this state or a later one
 *   mute N                the first N devices say nothing any more; 0: all speak again
 *   move N                N devices with a Connection ID go on from another port
 *   cancelled FILE        writes "ADDRESS:PORT TOKEN" of what was cancelled, and must be forgotten
 *   list FILE             writes "ADDRESS:PORT TOKEN PATH STATE" of all accepted relations
 *   report                all counters
 *   quit */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fleet/fleet.h"

#define PASSES 5 /* of "open": for those that were answered with an error */

enum waiting {
    WAIT_NOTHING,
    WAIT_CALM,
    WAIT_OPEN,
    WAIT_CONNECT,
    WAIT_TOUCH,
    WAIT_HEARD,
    WAIT_EXPECT,
};

static struct {
    enum waiting what;
    uint64_t begun, deadline, looked_at;
    uint32_t content;
    unsigned window;
    size_t cursor;
    unsigned pass;
} command;

static char line[512];
static size_t line_length;

static size_t watch_count(void)
{
    return (size_t)fleet.options.devices * fleet.options.slots;
}

static void wait_for(enum waiting what, uint64_t ms)
{
    command.what = what;
    command.begun = fleet.now;
    command.looked_at = 0;
    command.deadline = fleet.now + ms * MS;
    command.cursor = command.pass = 0;
}

/* Ends the command that waits. */
static void done(bool good, size_t missing)
{
    command.what = WAIT_NOTHING;
    printf("{\"ok\": %s, \"missing\": %zu, \"active\": %u, \"seconds\": %.3f, "
           "\"checked\": %llu}\n",
           good ? "true" : "false", missing, fleet.active,
           (double)(fleet.now - command.begun) / 1e6, (unsigned long long)fleet.checked);
    fflush(stdout);
}

static void say_ok(void)
{
    command.begun = fleet.now;
    done(true, 0);
}

/* ---- reports ---- */

static void report_violations(void)
{
    printf("\"violations\": {\"total\": ");
    uint64_t total = 0;

    for (unsigned i = 0; i < VIOLATION_COUNT; i++)
        total += fleet.violations[i];
    printf("%llu", (unsigned long long)total);
#define X(name) \
    printf(", \"" #name "\": %llu", (unsigned long long)fleet.violations[VIOLATION_##name]);
    FLEET_VIOLATIONS(X)
#undef X
    printf("}, \"complaints\": [");
    for (unsigned i = 0; i < fleet.complaint_count; i++) {
        for (char *c = fleet.complaints[i]; *c; c++)
            if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || (unsigned char)*c > '~')
                *c = '\'';
        printf("%s\"%s\"", i ? ", " : "", fleet.complaints[i]);
    }
    printf("]");
}

static void report(void)
{
    const char *separator = "";

    printf("{\"active\": %u, \"owed\": %u, \"under_way\": %u, \"now\": %.6f, "
           "\"owed_done_at\": %.6f, \"last_heard\": %.6f, ",
           fleet.active, fleet.owed, fleet.under_way, (double)fleet.now / 1e6,
           (double)fleet.owed_done_at / 1e6, (double)fleet.last_heard / 1e6);
#define X(name) printf("\"" #name "\": %llu, ", (unsigned long long)fleet.name);
    FLEET_COUNTERS(X)
#undef X
    printf("\"codes\": {");
    for (unsigned i = 0; i < 256; i++) {
        if (!fleet.codes[i])
            continue;
        printf("%s\"%u.%02u\": %llu", separator, code_class((uint8_t)i), code_detail((uint8_t)i),
               (unsigned long long)fleet.codes[i]);
        separator = ", ";
    }
    printf("}, ");
    report_violations();
    printf("}\n");
    fflush(stdout);
}

static void write_token(FILE *f, const uint8_t *token, unsigned length)
{
    for (unsigned k = 0; k < length; k++)
        fprintf(f, "%02x", token[k]);
}

static void list(const char *file)
{
    FILE *f = fopen(file, "w");
    char name[32];

    for (size_t i = 0; f && i < watch_count(); i++) {
        const struct watch *w = &fleet.watches[i];

        if (w->state != WATCH_ACTIVE)
            continue;
        link_name(&fleet.devices[w->device], name);
        fprintf(f, "%s ", name);
        write_token(f, w->token, w->token_length);
        fprintf(f, " %u %u\n", w->path, w->content);
    }
    if (!f || fclose(f) != 0)
        done(false, 0);
    else
        say_ok();
}

static void list_cancelled(const char *file)
{
    FILE *f = fopen(file, "w");
    char name[32];

    for (size_t i = 0; f && i < watch_count() * PAST_COUNT; i++) {
        const struct watch *w = &fleet.watches[i / PAST_COUNT];
        const struct past *p = &w->past[i % PAST_COUNT];

        if (!judge_is_over(p))
            continue;
        link_name(&fleet.devices[w->device], name);
        fprintf(f, "%s ", name);
        write_token(f, p->token, p->token_length);
        fputc('\n', f);
    }
    if (!f || fclose(f) != 0)
        done(false, 0);
    else
        say_ok();
}

/* ---- what takes a while ---- */

static void open_more(void)
{
    while (fleet.under_way < command.window && command.cursor < watch_count()) {
        /* Slot by slot, so that a device has time for each. */
        size_t device = command.cursor % fleet.options.devices;
        size_t slot = command.cursor / fleet.options.devices;

        if (!watch_open(&fleet.devices[device].watches[slot]))
            return; /* it is busy */
        command.cursor++;
    }
    if (command.cursor < watch_count() || fleet.under_way)
        return;
    if (fleet.active < watch_count() && ++command.pass < PASSES)
        command.cursor = 0;
    else
        done(fleet.active == watch_count(), watch_count() - fleet.active);
}

static void touch_more(void)
{
    while (fleet.under_way < command.window && command.cursor < fleet.options.devices)
        if (device_touch(&fleet.devices[command.cursor]))
            command.cursor++;
        else
            return;
    if (command.cursor == fleet.options.devices && !fleet.under_way)
        done(fleet.touched >= fleet.options.devices, 0);
}

static void connect_more(void)
{
    for (; fleet.connecting < command.window && command.cursor < fleet.options.devices;
         command.cursor++)
        secure_connect(&fleet.devices[command.cursor]);
    if (command.cursor == fleet.options.devices && !fleet.connecting)
        done(fleet.handshakes == fleet.options.devices,
             (size_t)(fleet.options.devices - fleet.handshakes));
}

static size_t without_state(void)
{
    size_t missing = 0;

    for (size_t i = 0; i < watch_count(); i++) {
        const struct watch *w = &fleet.watches[i];

        missing += w->state == WATCH_ACTIVE && !fleet.devices[w->device].mute &&
                   (!w->has_content || w->content < command.content);
    }
    return missing;
}

static void poll_expect(void)
{
    size_t missing;

    if (fleet.now - command.looked_at < 20 * MS && fleet.now < command.deadline)
        return;
    command.looked_at = fleet.now;
    missing = without_state();
    if (!missing || fleet.now >= command.deadline)
        done(!missing, missing);
}

void command_poll(void)
{
    bool late = fleet.now >= command.deadline;

    switch (command.what) {
    case WAIT_NOTHING:
        break;
    case WAIT_OPEN:
        open_more();
        break;
    case WAIT_CONNECT:
        connect_more();
        break;
    case WAIT_TOUCH:
        touch_more();
        break;
    case WAIT_CALM:
        if (!(fleet.under_way + fleet.cancelling) || late)
            done(!(fleet.under_way + fleet.cancelling), fleet.under_way + fleet.cancelling);
        break;
    case WAIT_HEARD:
        if (!fleet.owed || late)
            done(!fleet.owed, fleet.owed);
        break;
    case WAIT_EXPECT:
        poll_expect();
        break;
    }
}

/* ---- lines ---- */

static void mute(unsigned count)
{
    for (unsigned i = 0; i < fleet.options.devices; i++)
        fleet.devices[i].mute = i < count;
    say_ok();
}

/* Whoever chance finds; few of a small fleet may be found twice. */
static void move(unsigned count)
{
    unsigned moved = 0;

    for (unsigned tries = 0; tries < 10 * count && moved < count; tries++)
        moved += secure_move(&fleet.devices[random_below(fleet.options.devices)]);
    command.begun = fleet.now;
    done(moved == count, count - moved);
}

static void set_window(enum waiting what, const char *text)
{
    command.window = (unsigned)strtoul(text, NULL, 10);
    wait_for(what, 0);
}

/* False for what is none of these. */
static bool carry_out_waiting(const char *word, const char *rest)
{
    char *end;

    if (strcmp(word, "calm") == 0) {
        devices_run(false);
        wait_for(WAIT_CALM, strtoul(rest, NULL, 10));
    } else if (strcmp(word, "open") == 0) {
        set_window(WAIT_OPEN, rest);
    } else if (strcmp(word, "connect") == 0) {
        set_window(WAIT_CONNECT, rest);
    } else if (strcmp(word, "touch") == 0) {
        set_window(WAIT_TOUCH, rest);
    } else if (strcmp(word, "heard") == 0) {
        wait_for(WAIT_HEARD, strtoul(rest, NULL, 10));
    } else if (strcmp(word, "expect") == 0) {
        command.content = (uint32_t)strtoul(rest, &end, 10);
        wait_for(WAIT_EXPECT, strtoul(end, NULL, 10));
    } else {
        return false;
    }
    return true;
}

static bool carry_out(char *text)
{
    char *rest = strchr(text, ' ');

    if (rest)
        *rest++ = 0;
    else
        rest = text + strlen(text);
    if (strcmp(text, "quit") == 0)
        return false;
    if (carry_out_waiting(text, rest))
        return true;
    if (strcmp(text, "report") == 0) {
        report();
    } else if (strcmp(text, "list") == 0) {
        list(rest);
    } else if (strcmp(text, "cancelled") == 0) {
        list_cancelled(rest);
    } else if (strcmp(text, "mute") == 0) {
        mute((unsigned)strtoul(rest, NULL, 10));
    } else if (strcmp(text, "move") == 0) {
        move((unsigned)strtoul(rest, NULL, 10));
    } else {
        if (strcmp(text, "run") == 0)
            devices_run(true);
        else if (strcmp(text, "down") == 0 && strcmp(rest, "gateway") == 0)
            judge_gateway_down();
        else if (strcmp(rest, "store") == 0)
            judge_store(strcmp(text, "up") == 0);
        else
            fprintf(stderr, "coapgw-fleet: what does \"%s\" mean?\n", text);
        say_ok();
    }
    return true;
}

bool command_read(void)
{
    ssize_t n = read(STDIN_FILENO, line + line_length, sizeof(line) - line_length - 1);
    char *end;

    if (n <= 0)
        return false;
    line_length += (size_t)n;
    line[line_length] = 0;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        if (!carry_out(line))
            return false;
        line_length -= (size_t)(end + 1 - line);
        memmove(line, end + 1, line_length + 1);
    }
    return line_length < sizeof(line) - 1;
}
