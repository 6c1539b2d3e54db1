/* What may be changed while the gateway runs: the parameters of a session, and packet loss. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gateway/control/admin_http.h"
#include "gateway/session/loss.h"

static const char *const no_parameters[] = {NULL};

/* ---- parameters of a session ---- */

static int parameter_of(const char *name)
{
    for (int i = 0; i < TRANSMISSION_PARAMETERS; i++)
        if (strcmp(transmission_ranges[i].name, name) == 0)
            return i;
    return -1;
}

/* A number of thousandths. False for one that has more digits behind the point, or no place in
 * them. */
static bool to_milli(const json_t *value, uint64_t *milli)
{
    const double exact = json_number_value(value) * 1000;
    double rest;

    if (!json_is_number(value) || !(exact >= 0 && exact <= 1e13))
        return false;
    *milli = (uint64_t)(exact + 0.5);
    rest = exact - (double)*milli;
    return rest > -1e-3 && rest < 1e-3;
}

static void refuse_value(struct ask *ask, const struct transmission_range *range)
{
    const double lowest = (double)range->lowest_milli / 1e3,
                 highest = (double)range->highest_milli / 1e3;

    if (range->whole)
        ask_fail(ask, MHD_HTTP_BAD_REQUEST, "%s: a whole number from %.0f to %.0f", range->name,
                 lowest, highest);
    else
        ask_fail(ask, MHD_HTTP_BAD_REQUEST,
                 "%s: a number from %.10g to %.10g with at most three digits behind the point",
                 range->name, lowest, highest);
}

/* One member of the body; null gives back what the listener or upstream has. */
static void read_parameter(struct ask *ask, const char *name, const json_t *value,
                           struct inspect_parameters *change)
{
    static const struct transmission any = TRANSMISSION_DEFAULTS;
    const int which = parameter_of(name);
    struct transmission trial = any;

    if (which < 0) {
        ask_fail(ask, MHD_HTTP_BAD_REQUEST,
                 "%.64s: there is no such parameter; there are ack_timeout, ack_random_factor, "
                 "max_retransmit, nstart, default_leisure and probing_rate",
                 name);
        return;
    }
    if (json_is_null(value)) {
        change->reset |= 1u << which;
        return;
    }
    if (!to_milli(value, &change->milli[which]) ||
        transmission_set(&trial, (enum transmission_parameter)which, change->milli[which]) != 0) {
        refuse_value(ask, &transmission_ranges[which]);
        return;
    }
    change->set |= 1u << which;
    return;
}

static bool read_parameters(struct ask *ask, struct inspect_parameters *change)
{
    json_error_t error;
    json_t *body = json_loadb(ask->body, ask->body_length, JSON_REJECT_DUPLICATES, &error);

    if (!json_is_object(body)) {
        ask_fail(ask, MHD_HTTP_BAD_REQUEST, "the body is no JSON object%s%s", body ? "" : ": ",
                 body ? "" : error.text);
    } else if (json_object_size(body) == 0) {
        ask_fail(ask, MHD_HTTP_BAD_REQUEST, "nothing is to be set: {\"ack_timeout\": 3}, for one");
    } else {
        for (void *i = json_object_iter(body); i && !ask->status;
             i = json_object_iter_next(body, i))
            read_parameter(ask, json_object_iter_key(i), json_object_iter_value(i), change);
    }
    json_decref(body);
    return ask->status == 0;
}

static void fail_change(struct ask *ask, unsigned worker, int error)
{
    if (error == -ENOENT)
        ask_fail(ask, MHD_HTTP_NOT_FOUND, "there is no such session, or not any more");
    else if (error == -ENOSPC)
        ask_fail(ask, MHD_HTTP_SERVICE_UNAVAILABLE,
                 "limits.parameter_sets: %u sessions of worker %u have parameters of their own",
                 ask->admin->config->limits.parameter_sets, worker);
    else
        ask_fail_worker(ask, worker, error);
}

void admin_patch_session(struct ask *ask)
{
    struct mail *mail = &ask->admin->mail;
    struct inspect_parameters change = {0};
    struct inspect_question q = {0};
    struct inspect_session s;
    struct inspect_head head;
    struct parcel *answer;
    unsigned worker;
    int err;

    if (!ask_knows(ask, no_parameters))
        return;
    if (!session_id_parse(ask, strrchr(ask->path, '/') + 1, &worker, &q.index, &q.check)) {
        ask_fail(ask, MHD_HTTP_NOT_FOUND, "there is no such session");
        return;
    }
    if (!read_parameters(ask, &change))
        return;
    err = mail_ask(mail, worker, INSPECT_SET, &q, &change, sizeof(change), ask->deadline_us, &head,
                   &answer);
    if (err) {
        fail_change(ask, worker, err);
        return;
    }
    parcel_read(answer, sizeof(head), &s, sizeof(s));
    mail_free(mail, answer);
    ask_reply_json(ask, MHD_HTTP_OK, session_json(ask->admin, worker, &s));
}

/* ---- packet loss ---- */

/* As loss_parse() reads it. */
static void format_loss(const struct loss *loss, char text[LOSS_TEXT_BYTES * 2])
{
    char *to = text;

    if (loss->range_count == 0)
        sprintf(text, "%u%%", loss->active ? loss->percent : 0);
    for (unsigned i = 0; i < loss->range_count; i++) {
        to += sprintf(to, "%s%" PRIu64, i ? "," : "", loss->ranges[i].first);
        if (loss->ranges[i].last != loss->ranges[i].first)
            to += sprintf(to, "-%" PRIu64, loss->ranges[i].last);
    }
}

/* Asks all workers the same thing at once, and tells what is in force with each. */
static void ask_loss(struct ask *ask, enum inspect_type type, const struct loss *new)
{
    struct mail *mail = &ask->admin->mail;
    const unsigned workers = ask->admin->config->workers;
    uint64_t serials[CONFIG_WORKERS_MAX];
    struct inspect_question q = {0};
    json_t *rows = json_array();

    for (unsigned i = 0; i < workers; i++)
        serials[i] = mail_post(mail, i, type, &q, new, new ? sizeof(*new) : 0);
    for (unsigned i = 0; i < workers; i++) {
        struct parcel *answer = mail_await(mail, i, serials[i], ask->deadline_us);
        char text[LOSS_TEXT_BYTES * 2];
        struct loss loss;

        if (!answer || !parcel_read(answer, sizeof(struct inspect_head), &loss, sizeof(loss))) {
            mail_free(mail, answer);
            if (!ask->status)
                ask_fail_worker(ask, i, -ETIMEDOUT);
            continue;
        }
        mail_free(mail, answer);
        format_loss(&loss, text);
        json_array_append_new(rows, json_pack("{s:i, s:s, s:I}", "worker", (int)i, "packet_loss",
                                              text, "sent", (json_int_t)loss.sent));
    }
    if (ask->status)
        json_decref(rows);
    else
        ask_reply_json(ask, MHD_HTTP_OK, json_pack("{s:o}", "workers", rows));
}

void admin_get_loss(struct ask *ask)
{
    if (ask_knows(ask, no_parameters))
        ask_loss(ask, INSPECT_LOSS, NULL);
}

/* White space around the specification is a shell's or an editor's. */
static const char *read_loss(struct ask *ask, struct loss *loss)
{
    char *text = ask->body + strspn(ask->body, " \t\r\n");
    const char *why = NULL;
    size_t length = strlen(text);

    if (memchr(ask->body, 0, ask->body_length))
        return "a zero byte";
    while (length && strchr(" \t\r\n", text[length - 1]))
        text[--length] = 0;
    return loss_parse(loss, text, &why) == 0 ? NULL : why;
}

void admin_put_loss(struct ask *ask)
{
    struct loss loss = {0};
    const char *why;

    if (!ask_knows(ask, no_parameters))
        return;
    why = read_loss(ask, &loss);
    if (why)
        ask_fail(ask, MHD_HTTP_BAD_REQUEST,
                 "%s; write a percentage, as 20%%, or up to %d ranges of messages, as 1,5-9,101",
                 why, LOSS_RANGES);
    else
        ask_loss(ask, INSPECT_SET_LOSS, &loss);
}
