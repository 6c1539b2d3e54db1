/* Health, readiness and the store. None of it asks a worker: it is about workers that may not
 * answer. */
#include "gateway/control/admin_http.h"

#define TAKEN_OVER                                                                              \
    "another gateway has taken the service address over: nothing is written to the store, and " \
    "those who observed are notified by that one"

static const char *const no_parameters[] = {NULL};

/* ---- the store ---- */

/* False without a store. */
static bool get_store(const struct admin *a, struct store_status *status)
{
    *status = (struct store_status){0};
    if (!a->setup.store)
        return false;
    a->setup.store_status(a->setup.store, status);
    ask_plain(status->error); /* Redis' words */
    return status->enabled;
}

void admin_get_store(struct ask *ask)
{
    struct store_status s;
    json_t *row;

    if (!ask_knows(ask, no_parameters))
        return;
    if (!get_store(ask->admin, &s)) {
        ask_reply_json(ask, MHD_HTTP_OK, json_pack("{s:b}", "enabled", 0));
        return;
    }
    row = json_pack("{s:b, s:b, s:b, s:b, s:s}", "enabled", 1, "connected", s.connected, "owner",
                    s.owner, "resumed", s.resumed, "error", s.error);
    json_object_update_new(
        row, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "puts",
                       (json_int_t)s.puts, "deletes", (json_int_t)s.deletes, "confirmed",
                       (json_int_t)s.confirmed, "failed", (json_int_t)s.failed, "timeouts",
                       (json_int_t)s.timeouts, "read", (json_int_t)s.read, "rejected",
                       (json_int_t)s.rejected, "foreign", (json_int_t)s.foreign, "connects",
                       (json_int_t)s.connects, "under_way", (json_int_t)s.under_way));
    json_object_update_new(
        row, json_pack("{s:I, s:I, s:I, s:I}", "keys_found", (json_int_t)s.keys_found,
                       "keys_unknown", (json_int_t)s.keys_unknown, "keys_bad",
                       (json_int_t)s.keys_bad, "keys_failed", (json_int_t)s.keys_failed));
    ask_reply_json(ask, MHD_HTTP_OK, row);
}

/* ---- health ---- */

static void add_store(const struct admin *a, json_t *reasons)
{
    struct store_status s;

    if (!get_store(a, &s))
        return;
    if (!s.owner)
        json_array_append_new(reasons, json_string(TAKEN_OVER));
    else if (!s.connected)
        json_array_append_new(
            reasons, json_sprintf("the store is away%s%s", s.error[0] ? ": " : "", s.error));
}

json_t *admin_reasons(const struct admin *a, bool *failing)
{
    json_t *reasons = json_array();

    *failing = false;
    for (unsigned worker = 0; worker < a->config->workers; worker++) {
        struct worker_load load;

        a->setup.vitals.load(a->setup.vitals.context, worker, &load);
        if (load.turn_age_us < ADMIN_STILL_US)
            continue;
        *failing = true;
        json_array_append_new(reasons, json_sprintf("worker %u has stood still for %.1f s", worker,
                                                    (double)load.turn_age_us / 1e6));
    }
    add_store(a, reasons);
    return reasons;
}

void admin_get_health(struct ask *ask)
{
    bool failing;
    json_t *reasons;
    const char *status;

    if (!ask_knows(ask, no_parameters))
        return;
    reasons = admin_reasons(ask->admin, &failing);
    status = failing ? "failing" : json_array_size(reasons) ? "degraded" : "ok";
    ask_reply_json(ask, failing ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
                   json_pack("{s:s, s:o}", "status", status, "reasons", reasons));
}

/* Packets are served since before the admin thread runs. With a store, those who observed before a
 * start are to be found first, where the store is there to be asked. */
void admin_get_ready(struct ask *ask)
{
    struct store_status s;
    const char *why = NULL;

    if (!ask_knows(ask, no_parameters))
        return;
    if (get_store(ask->admin, &s) && (!s.owner || !s.resumed)) {
        if (!s.owner)
            why = TAKEN_OVER;
        else if (s.connected)
            why = "records are being read back";
        else if (!s.error[0])
            why = "the store has not been reached yet";
    }
    if (why)
        ask_reply_json(ask, MHD_HTTP_SERVICE_UNAVAILABLE,
                       json_pack("{s:b, s:s}", "ready", 0, "reason", why));
    else
        ask_reply_json(ask, MHD_HTTP_OK, json_pack("{s:b}", "ready", 1));
}
