/* The servers of upstreams, as each worker sees them. */
#include <errno.h>

#include "gateway/control/admin_http.h"

/* An object for each upstream, with one for each of its servers; workers add what they know. */
static json_t *skeleton(const struct config *config)
{
    json_t *upstreams = json_array();

    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *u = &config->upstreams[i];
        json_t *servers = json_array();

        for (unsigned k = 0; k < u->server_count; k++) {
            const struct endpoint *e = &u->servers[k].endpoint;
            char text[ENDPOINT_TEXT_BYTES];

            json_array_append_new(servers, json_pack("{s:s, s:[]}", "address",
                                                     endpoint_format(&e->address, e->port, text),
                                                     "workers"));
        }
        json_array_append_new(upstreams,
                              json_pack("{s:s, s:o}", "name", u->name, "servers", servers));
    }
    return upstreams;
}

static void add_association(json_t *row, const struct inspect_server *s)
{
    static const char *const states[] = {[SERVER_APART] = "none",
                                         [SERVER_SHAKING_HANDS] = "handshake",
                                         [SERVER_ASSOCIATED] = "established"};

    json_object_set_new(row, "association", json_string(states[s->association]));
    json_object_set_new(row, "associations", json_integer(s->associations));
    if (s->why[0]) {
        json_object_set_new(row, "last_error", json_string(s->why));
        json_object_set_new(row, "last_error_age", json_real((double)s->failed_us / 1e6));
    }
}

static json_t *server_json(unsigned worker, const struct inspect_server *s)
{
    json_t *row =
        json_pack("{s:i, s:s, s:I, s:I, s:i, s:i, s:i, s:f}", "worker", (int)worker, "state",
                  s->down ? "down" : "up", "requests", (json_int_t)s->requests, "observations",
                  (json_int_t)s->observations, "outstanding", s->outstanding, "waiting", s->waiting,
                  "unanswered_pings", s->pings, "heard", (double)s->heard_us / 1e6);

    if (s->down)
        json_object_set_new(row, "down", json_real((double)s->down_us / 1e6));
    json_object_set_new(row, "transport", json_string(transport_name(s->transport)));
    if (s->transport == TRANSPORT_DTLS)
        add_association(row, s);
    return row;
}

static void add_server(json_t *upstreams, json_t *destinations, unsigned worker,
                       const struct inspect_server *s)
{
    json_t *row = server_json(worker, s), *servers;
    char text[ENDPOINT_TEXT_BYTES];

    if (s->upstream == INSPECT_FORWARD) {
        endpoint_format(&s->endpoint.address, s->endpoint.port, text);
        json_object_set_new(row, "address", json_string(text));
        json_array_append_new(destinations, row);
        return;
    }
    servers = json_object_get(json_array_get(upstreams, s->upstream), "servers");
    /* Frees the row where there is no such server. */
    json_array_append_new(json_object_get(json_array_get(servers, s->number), "workers"), row);
}

static int ask_worker(struct ask *ask, unsigned worker, json_t *upstreams, json_t *destinations)
{
    struct mail *mail = &ask->admin->mail;
    struct inspect_question q = {0};
    struct inspect_head head;
    struct parcel *answer;

    do {
        int err =
            mail_ask(mail, worker, INSPECT_SERVERS, &q, NULL, 0, ask->deadline_us, &head, &answer);

        if (err)
            return err;
        for (uint32_t i = 0; i < head.count; i++) {
            struct inspect_server s;

            if (parcel_read(answer, (uint32_t)(sizeof(head) + i * sizeof(s)), &s, sizeof(s)))
                add_server(upstreams, destinations, worker, &s);
        }
        mail_free(mail, answer);
        q.from = head.next;
    } while (head.next != INSPECT_END);
    return 0;
}

void admin_get_upstreams(struct ask *ask)
{
    static const char *const names[] = {NULL};
    const struct config *config = ask->admin->config;
    json_t *upstreams, *destinations;

    if (!ask_knows(ask, names))
        return;
    upstreams = skeleton(config);
    destinations = json_array();
    for (unsigned worker = 0; worker < config->workers; worker++) {
        int err = ask_worker(ask, worker, upstreams, destinations);

        if (!err)
            continue;
        json_decref(upstreams);
        json_decref(destinations);
        ask_fail_worker(ask, worker, err);
        return;
    }
    ask_reply_json(ask, MHD_HTTP_OK,
                   json_pack("{s:o, s:o}", "upstreams", upstreams, "destinations", destinations));
}
