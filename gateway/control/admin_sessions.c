/* Sessions and observe relations, in pages over all workers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/coap/message.h"
#include "gateway/control/admin_http.h"
#include "gateway/control/admin_relation.h"
#include "gateway/security/aead.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000

/* A list that is asked for: what of it is meant, and how far it has come. */
struct listing {
    struct ask *ask;
    enum inspect_type type;
    struct inspect_question q;
    unsigned worker, end; /* workers from here to there */
    uint32_t limit;
    json_t *rows;
};

/* ---- names ---- */

void session_id_format(unsigned worker, const struct inspect_name *name,
                       char text[SESSION_ID_BYTES])
{
    snprintf(text, SESSION_ID_BYTES, "%u-%u-%08x", worker, name->index, name->check);
}

/* A number up to 32 bits in front of `end`, without anything around it. */
static bool read_part(const char **at, int base, char end, uint32_t *value)
{
    const char *digits = base == 16 ? "0123456789abcdef" : "0123456789";
    const size_t length = strspn(*at, digits);
    unsigned long long wide;

    if (length == 0 || length > 10 || (*at)[length] != end)
        return false;
    wide = strtoull(*at, NULL, base);
    *at += length + (end != 0);
    *value = (uint32_t)wide;
    return wide <= UINT32_MAX;
}

bool session_id_parse(const struct ask *ask, const char *text, unsigned *worker, uint32_t *index,
                      uint32_t *check)
{
    return read_part(&text, 10, '-', worker) && read_part(&text, 10, '-', index) &&
           read_part(&text, 16, 0, check) && *worker < ask->admin->config->workers;
}

/* ---- a session ---- */

static json_t *seconds(uint64_t us)
{
    return json_real((double)us / 1e6);
}

static json_t *transmission_json(const struct transmission *t)
{
    json_t *set = json_object();

    for (unsigned i = 0; i < TRANSMISSION_PARAMETERS; i++) {
        const uint64_t milli = transmission_get(t, i);

        json_object_set_new(set, transmission_ranges[i].name,
                            transmission_ranges[i].whole ? json_integer((json_int_t)milli / 1000)
                                                         : json_real((double)milli / 1e3));
    }
    return set;
}

static const char *cid_name(const struct inspect_session *s)
{
    if (s->own_cid)
        return s->peer_cid ? "both" : "gateway";
    return s->peer_cid ? "peer" : "none";
}

/* JSON has no bytes but text: an identity is written as operators see it elsewhere. */
static void add_association(json_t *row, const struct inspect_session *s)
{
    char principal[PRINCIPAL_TEXT_BYTES];

    principal_format(&s->principal, principal);
    json_object_set_new(row, "principal", json_string(principal));
    if (s->suite < SUITE_COUNT)
        json_object_set_new(row, "suite", json_string(suite_name((enum suite)s->suite)));
    json_object_set_new(row, "connection_id", json_string(cid_name(s)));
    json_object_set_new(row, "resumed", json_boolean(s->resumed));
}

json_t *session_json(const struct admin *admin, unsigned worker, const struct inspect_session *s)
{
    const struct flow *flow = &s->name.flow;
    char id[SESSION_ID_BYTES], peer[ENDPOINT_TEXT_BYTES], local[ENDPOINT_TEXT_BYTES];
    json_t *row;

    session_id_format(worker, &s->name, id);
    endpoint_format(&s->name.peer.address, s->name.peer.port, peer);
    endpoint_format(&admin->config->locals[flow->local].address, flow->local_port, local);
    row = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:o, s:b, s:i, s:i, s:i, s:i}", "id", id,
                    "worker", (int)worker, "role", s->upstream ? "upstream" : "client", "peer",
                    peer, "local", local, "transport", transport_name(flow->transport), "silent",
                    seconds(s->silent_us), "proven", s->proven, "exchanges", s->exchanges,
                    "remembered", s->remembered, "outstanding", s->outstanding, "waiting",
                    s->waiting);
    if (s->upstream)
        json_object_set_new(row, "users", json_integer(s->users));
    else
        json_object_set_new(row, "relations", json_integer(s->relations));
    if (s->secured)
        add_association(row, s);
    json_object_set_new(row, "own_parameters", json_boolean(s->own));
    json_object_set_new(row, "transmission", transmission_json(&s->transmission));
    return row;
}

/* ---- lists ---- */

/* `peer` is an address, or an address with a port; IPv6 with a port in brackets. */
static bool read_peer(const char *text, struct inspect_question *q)
{
    char name[ENDPOINT_TEXT_BYTES];
    const bool bracket = text[0] == '[';
    const char *colon = strrchr(text, ':');
    const bool has_port = colon && (bracket ? colon[-1] == ']' : strchr(text, ':') == colon);
    size_t length = has_port ? (size_t)(colon - text) : strlen(text);
    uint64_t port = 0;

    if (length >= sizeof(name) || (bracket && (length < 2 || text[length - 1] != ']')))
        return false;
    memcpy(name, text + bracket, length - 2 * bracket);
    name[length - 2 * bracket] = 0;
    if (has_port && !ask_number(colon + 1, 1, UINT16_MAX, &port))
        return false;
    q->match = has_port ? INSPECT_ENDPOINT : INSPECT_PEER;
    q->peer.port = (uint16_t)port;
    return address_parse(name, &q->peer.address) == 0;
}

/* "WORKER-INDEX-SKIP": where the last answer said to go on. */
static bool read_cursor(struct listing *l, const char *text)
{
    uint32_t worker;

    if (!read_part(&text, 10, '-', &worker) || !read_part(&text, 10, '-', &l->q.from) ||
        !read_part(&text, 10, 0, &l->q.skip) || worker < l->worker || worker >= l->end)
        return false;
    l->worker = worker;
    return true;
}

static bool read_parameters(struct listing *l)
{
    static const char *const names[] = {"worker", "from", "limit", "peer", NULL};
    const char *worker, *from, *limit, *peer;
    uint64_t number = LIMIT_DEFAULT;

    if (!ask_knows(l->ask, names))
        return false;
    worker = ask_parameter(l->ask, "worker");
    from = ask_parameter(l->ask, "from");
    limit = ask_parameter(l->ask, "limit");
    peer = ask_parameter(l->ask, "peer");
    if (limit && !ask_number(limit, 1, LIMIT_MAX, &number)) {
        ask_fail(l->ask, MHD_HTTP_BAD_REQUEST, "limit: a number from 1 to %d", LIMIT_MAX);
        return false;
    }
    l->limit = (uint32_t)number;
    if (worker && !ask_number(worker, 0, l->end - 1, &number)) {
        ask_fail(l->ask, MHD_HTTP_BAD_REQUEST, "worker: a number from 0 to %u", l->end - 1);
        return false;
    }
    if (worker) {
        l->worker = (unsigned)number;
        l->end = l->worker + 1;
    }
    if (from && !read_cursor(l, from))
        ask_fail(l->ask, MHD_HTTP_BAD_REQUEST, "from: the \"next\" of an answer before");
    else if (peer && !read_peer(peer, &l->q))
        ask_fail(l->ask, MHD_HTTP_BAD_REQUEST, "peer: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT");
    return l->ask->status == 0;
}

/* Rows of one answer. Returns how many were added. */
static uint32_t add_rows(struct listing *l, const struct parcel *answer, uint32_t count)
{
    uint32_t at = sizeof(struct inspect_head), done = 0;

    for (; done < count; done++) {
        json_t *row;

        if (l->type == INSPECT_SESSIONS) {
            struct inspect_session s;

            if (!parcel_read(answer, at, &s, sizeof(s)))
                break;
            at += sizeof(s);
            row = session_json(l->ask->admin, l->worker, &s);
        } else {
            row = relation_json(l->ask->admin, l->worker, answer, &at);
        }
        if (!row)
            break;
        json_array_append_new(l->rows, row);
    }
    return done;
}

/* Asks worker after worker, until there are enough rows or none are left. A page may be empty: when
 * time is up the list ends where it has come to. */
static int collect(struct listing *l)
{
    struct mail *mail = &l->ask->admin->mail;
    const uint64_t enough_us = l->ask->deadline_us - ADMIN_PATIENCE_US / 5;

    while (l->worker < l->end && json_array_size(l->rows) < l->limit) {
        struct inspect_head head;
        struct parcel *answer;
        int err;

        if (mail_now_us() >= enough_us)
            return 0;
        l->q.limit = l->limit - (uint32_t)json_array_size(l->rows);
        err =
            mail_ask(mail, l->worker, l->type, &l->q, NULL, 0, l->ask->deadline_us, &head, &answer);
        if (err)
            return err;
        add_rows(l, answer, head.count);
        mail_free(mail, answer);
        l->q.from = head.next == INSPECT_END ? 0 : head.next;
        l->q.skip = head.next == INSPECT_END ? 0 : head.skip;
        l->worker += head.next == INSPECT_END;
    }
    return 0;
}

static void list(struct ask *ask, enum inspect_type type, const char *name)
{
    struct listing l = {.ask = ask, .type = type, .end = ask->admin->config->workers};
    json_t *next = NULL;
    int err;

    if (!read_parameters(&l))
        return;
    l.rows = json_array();
    err = collect(&l);
    if (err) {
        json_decref(l.rows);
        ask_fail_worker(ask, l.worker, err);
        return;
    }
    if (l.worker < l.end)
        next = json_sprintf("%u-%u-%u", l.worker, l.q.from, l.q.skip);
    ask_reply_json(ask, MHD_HTTP_OK,
                   json_pack("{s:o, s:o}", name, l.rows, "next", next ? next : json_null()));
}

void admin_get_sessions(struct ask *ask)
{
    list(ask, INSPECT_SESSIONS, "sessions");
}

void admin_get_relations(struct ask *ask)
{
    list(ask, INSPECT_RELATIONS, "relations");
}

/* ---- one ---- */

/* The session with its relations, the first LIMIT_MAX of them. */
void admin_get_session(struct ask *ask)
{
    static const char *const names[] = {NULL};
    struct mail *mail = &ask->admin->mail;
    struct listing l = {.ask = ask, .type = INSPECT_RELATIONS, .limit = LIMIT_MAX};
    struct inspect_session s;
    struct inspect_head head;
    struct parcel *answer;
    json_t *row;
    int err;

    if (!ask_knows(ask, names))
        return;
    if (!session_id_parse(ask, strrchr(ask->path, '/') + 1, &l.worker, &l.q.index, &l.q.check)) {
        ask_fail(ask, MHD_HTTP_NOT_FOUND, "there is no such session");
        return;
    }
    l.q.match = INSPECT_ONE;
    err =
        mail_ask(mail, l.worker, INSPECT_SESSION, &l.q, NULL, 0, ask->deadline_us, &head, &answer);
    if (err == -ENOENT) {
        ask_fail(ask, MHD_HTTP_NOT_FOUND, "there is no such session, or not any more");
        return;
    }
    if (err) {
        ask_fail_worker(ask, l.worker, err);
        return;
    }
    parcel_read(answer, sizeof(head), &s, sizeof(s));
    mail_free(mail, answer);
    row = session_json(ask->admin, l.worker, &s);
    l.rows = json_array();
    l.q.from = s.name.index;
    l.end = l.worker + 1;
    err = collect(&l);
    if (err) {
        json_decref(row);
        json_decref(l.rows);
        ask_fail_worker(ask, l.worker, err);
        return;
    }
    json_object_set_new(row, "observes", l.rows);
    ask_reply_json(ask, MHD_HTTP_OK, row);
}
