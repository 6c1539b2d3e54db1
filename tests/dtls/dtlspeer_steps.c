/* dtlspeer: the steps of a script. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dtls/dtlspeer.h"

typedef int (*step_function)(struct tool *t, char *argument);

__attribute__((format(printf, 1, 2))) static int failed(const char *format, ...)
{
    va_list list;

    printf("failed: ");
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    return -1;
}

static bool is_over(const struct tool *t)
{
    return peer_state(&t->peer) != PEER_CONNECTING;
}

static bool is_closed(const struct tool *t)
{
    return peer_state(&t->peer) == PEER_CLOSED;
}

static bool is_answered(const struct tool *t)
{
    return !t->request.waiting || peer_state(&t->peer) != PEER_ESTABLISHED;
}

static bool never(const struct tool *t)
{
    (void)t;
    return false;
}

/* "1.5" seconds. */
static bool read_seconds(const char *text, uint64_t *us)
{
    char *end;
    double value = strtod(text, &end);

    *us = (uint64_t)(value * SECOND_US);
    return end != text && *end == '\0' && value >= 0 && value <= 3600;
}

static void print_hex(const char *name, const uint8_t *bytes, unsigned length, bool there)
{
    printf(" %s=%s", name, there && length ? "" : "none");
    for (unsigned i = 0; there && i < length; i++)
        printf("%02x", bytes[i]);
}

/* ---- the association ---- */

static int begin(struct tool *t, const struct peer_session *session)
{
    struct peer_setup setup = t->setup;
    int error;

    peer_free(&t->peer);
    t->request.waiting = false;
    t->observation_count = 0;
    t->alert = -1;
    setup.session = session;
    error = peer_init(&t->peer, &setup);
    if (error == 0)
        error = peer_start(&t->peer, clock_us());
    if (error < 0)
        return failed("%s", strerror(-error));
    link_wait(t, is_over, t->timeout_us);
    return 0;
}

static int connect_with(struct tool *t, const struct peer_session *session)
{
    struct peer_export e;

    if (begin(t, session) < 0)
        return -1;
    if (peer_state(&t->peer) != PEER_ESTABLISHED)
        return failed("not connected: %s, alert sent %u, received %d",
                      strerror(peer_error(&t->peer) ? -peer_error(&t->peer) : ETIMEDOUT),
                      t->peer.alert_sent, t->alert);
    peer_export(&t->peer, &e);
    printf("connected suite=%s", peer_suite_name(e.suite));
    print_hex("cid", e.server_cid, e.server_cid_length, true);
    print_hex("own", t->setup.cid, t->setup.cid_length, e.cid_agreed);
    printf(" extended=%s resumed=%s\n", e.extended ? "yes" : "no", e.resumed ? "yes" : "no");
    return 0;
}

static int step_connect(struct tool *t, char *argument)
{
    (void)argument;
    return connect_with(t, NULL);
}

static int step_resume(struct tool *t, char *argument)
{
    (void)argument;
    if (!peer_session_get(&t->peer, &t->session))
        return failed("there is no session to resume");
    if (t->session.ticket_length)
        memcpy(t->ticket, t->session.ticket, t->session.ticket_length);
    t->session.ticket = t->ticket;
    if (connect_with(t, &t->session) < 0)
        return -1;
    return t->peer.resumed ? 0 : failed("the handshake was a full one");
}

/* refused N: by this alert; refused timeout: by silence. */
static int step_refused(struct tool *t, char *argument)
{
    bool silence = strcmp(argument, "timeout") == 0;

    if (begin(t, NULL) < 0)
        return -1;
    if (silence && peer_state(&t->peer) == PEER_CONNECTING) {
        puts("refused timeout");
        return 0;
    }
    if (silence || peer_error(&t->peer) != -ECONNREFUSED || t->alert != atoi(argument))
        return failed("state %d, %s, alert %d", peer_state(&t->peer),
                      strerror(-peer_error(&t->peer)), t->alert);
    printf("refused %d\n", t->alert);
    return 0;
}

static int step_close(struct tool *t, char *argument)
{
    (void)argument;
    if (peer_state(&t->peer) != PEER_ESTABLISHED)
        return failed("not connected");
    peer_close(&t->peer);
    puts("closed");
    return 0;
}

static int step_closed(struct tool *t, char *argument)
{
    (void)argument;
    if (!link_wait(t, is_closed, t->timeout_us))
        return failed("no close_notify came");
    puts("closed");
    return 0;
}

/* ---- CoAP ---- */

static int exchange(struct tool *t, uint8_t code, const char *path, const char *text, bool observe)
{
    int error = coap_request(t, code, path, text, observe);

    if (error < 0)
        return failed("%s", strerror(-error));
    link_wait(t, is_answered, t->timeout_us);
    if (t->request.waiting) {
        t->request.waiting = false;
        return failed("no answer");
    }
    return t->request.reset ? failed("a Reset came") : 0;
}

static int step_get(struct tool *t, char *argument)
{
    return exchange(t, CODE_GET, argument, NULL, false);
}

static int step_observe(struct tool *t, char *argument)
{
    return exchange(t, CODE_GET, argument, NULL, true);
}

/* "PATH TEXT" */
static int send_text(struct tool *t, uint8_t code, char *argument)
{
    char *text = strchr(argument, ' ');

    if (!text)
        return failed("write a path and a text");
    *text = '\0';
    return exchange(t, code, argument, text + 1, false);
}

static int step_post(struct tool *t, char *argument)
{
    return send_text(t, CODE_POST, argument);
}

static int step_put(struct tool *t, char *argument)
{
    return send_text(t, CODE_PUT, argument);
}

/* wait 2s: whatever comes in that time; wait 3: until three more notifications have come than those
 * that were waited for. */
static int step_wait(struct tool *t, char *argument)
{
    size_t length = strlen(argument);
    uint64_t until, us;
    unsigned wanted;

    if (length > 1 && argument[length - 1] == 's') {
        argument[length - 1] = '\0';
        if (!read_seconds(argument, &us))
            return failed("write a time such as 2s");
        link_wait(t, never, us);
        t->notifications_seen = t->notifications;
        return 0;
    }
    wanted = (unsigned)strtoul(argument, NULL, 10);
    until = clock_us() + t->timeout_us;
    while (t->notifications - t->notifications_seen < wanted && clock_us() < until)
        link_turn(t, until, -1);
    if (t->notifications - t->notifications_seen < wanted)
        return failed("%u of %u came", t->notifications - t->notifications_seen, wanted);
    t->notifications_seen += wanted;
    return 0;
}

/* ---- raw text ---- */

static int step_send(struct tool *t, char *argument)
{
    char line[COAP_MAX];
    int length = snprintf(line, sizeof(line), "%s\n", argument);
    int error = length < COAP_MAX ? peer_write(&t->peer, line, (size_t)length) : -EMSGSIZE;

    if (error < 0)
        return failed("%s", strerror(-error));
    puts("sent");
    return 0;
}

static int step_expect(struct tool *t, char *argument)
{
    uint64_t until = clock_us() + t->timeout_us;
    char *found;

    for (;;) {
        found = memmem(t->received, t->received_length, argument, strlen(argument));
        if (found || clock_us() >= until)
            break;
        link_turn(t, until, -1);
    }
    t->received_length = 0;
    return found ? 0 : failed("it did not come");
}

/* ---- misbehaviour ---- */

static int step_rebind(struct tool *t, char *argument)
{
    struct sockaddr_storage own;
    socklen_t length = sizeof(own);
    int error = link_open(t, argument[0] ? argument : NULL);

    if (error < 0)
        return failed("%s", strerror(-error));
    if (getsockname(t->fd, (struct sockaddr *)&own, &length) < 0)
        return failed("%s", strerror(errno));
    printf("rebound %u\n",
           ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port
                                           : ((struct sockaddr_in *)&own)->sin_port));
    return 0;
}

static int step_back(struct tool *t, char *argument)
{
    int fd = t->fd;

    (void)argument;
    if (t->other_fd < 0)
        return failed("there was no rebind");
    t->fd = t->other_fd;
    t->other_fd = fd;
    puts("back");
    return 0;
}

static int step_export(struct tool *t, char *argument)
{
    struct peer_export e;

    (void)argument;
    peer_export(&t->peer, &e);
    printf("export");
    print_hex("write_key", e.write.key, e.key_bytes, true);
    print_hex("write_iv", e.write.iv, e.iv_bytes, true);
    print_hex("read_key", e.read.key, e.key_bytes, true);
    print_hex("read_iv", e.read.iv, e.iv_bytes, true);
    printf(" next=%llu read_top=%llu refused=%u\n", (unsigned long long)e.write_sequence[1],
           (unsigned long long)e.read_top, peer_refused(&t->peer));
    return 0;
}

static int step_replay(struct tool *t, char *argument)
{
    int error;

    (void)argument;
    if (!t->has_last)
        return failed("nothing was sent yet");
    error = link_send(t, t->last, t->last_length);
    if (error < 0)
        return failed("%s", strerror(-error));
    printf("replayed %zu\n", t->last_length);
    return 0;
}

static int step_forge(struct tool *t, char *argument)
{
    uint8_t message[MESSAGE_HEADER_BYTES], out[PEER_RECORD_ROOM(sizeof(message))];
    struct peer_record record;
    int size;

    (void)argument;
    if (peer_state(&t->peer) != PEER_ESTABLISHED)
        return failed("not connected");
    message_write_empty(message, TYPE_CON, t->next_mid++);
    peer_record(&t->peer, PEER_APPLICATION, message, sizeof(message), &record);
    size = peer_seal(&t->peer, &record, out, sizeof(out));
    if (size < 0)
        return failed("%s", strerror(-size));
    out[size - 1] ^= 1;
    size = link_send(t, out, (size_t)size);
    if (size < 0)
        return failed("%s", strerror(-size));
    puts("forged");
    return 0;
}

static int step_silent(struct tool *t, char *argument)
{
    uint64_t before = t->datagrams, us;

    if (!read_seconds(argument, &us))
        return failed("write a time in seconds");
    link_wait(t, never, us);
    if (t->datagrams != before)
        return failed("%lu datagrams came", (unsigned long)(t->datagrams - before));
    puts("silent");
    return 0;
}

static int step_sleep(struct tool *t, char *argument)
{
    uint64_t us;

    if (!read_seconds(argument, &us))
        return failed("write a time in seconds");
    link_wait(t, never, us);
    return 0;
}

/* ---- */

static const struct {
    const char *name;
    step_function run;
    bool argument; /* it has to have one */
} steps[] = {
    {"connect", step_connect, false}, {"resume", step_resume, false},
    {"refused", step_refused, true},  {"close", step_close, false},
    {"closed", step_closed, false},   {"get", step_get, true},
    {"observe", step_observe, true},  {"post", step_post, true},
    {"put", step_put, true},          {"wait", step_wait, true},
    {"send", step_send, true},        {"expect", step_expect, true},
    {"rebind", step_rebind, false},   {"replay", step_replay, false},
    {"forge", step_forge, false},     {"silent", step_silent, true},
    {"sleep", step_sleep, true},      {"back", step_back, false},
    {"export", step_export, false},
};

int step_run(struct tool *t, char *line)
{
    char *argument = line + strcspn(line, " ");

    if (*argument)
        *argument++ = '\0';
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (strcmp(line, steps[i].name) != 0)
            continue;
        if (steps[i].argument && !*argument)
            return failed("%s: wants an argument", line);
        return steps[i].run(t, argument);
    }
    return failed("%s: no such step", line);
}
