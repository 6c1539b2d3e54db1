#include "bench/gun/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/coap/code.h"
#include "tests/dtls/peer.h"

typedef unsigned long long number;

static double us(const struct histogram *h, double share)
{
    return (double)histogram_at(h, share) / 1000;
}

static double each(const struct gun_result *r)
{
    uint64_t n = r->received ? r->received : r->notifications;

    return n ? (double)r->cycles / (double)n : 0;
}

double gun_rate(const struct gun_result *r)
{
    return r->seconds > 0 ? (double)r->received / r->seconds : 0;
}

double gun_loss(const struct gun_result *r)
{
    uint64_t due = r->sent + r->unsent;

    return due ? (double)(r->timeouts + r->resets + r->unsent) / (double)due : 0;
}

/* ---- the table ---- */

static void line(uint64_t count, const char *what)
{
    if (count)
        printf("%14llu %s\n", (number)count, what);
}

static void print_kinds(const struct gun_result *r)
{
    for (unsigned kind = 0; kind < GUN_KINDS; kind++)
        if (r->by_kind[kind] && r->by_kind[kind] != r->sent)
            printf("%14llu were %s\n", (number)r->by_kind[kind], gun_kind_names[kind]);
    if (r->messages != r->sent)
        line(r->messages, "messages sent for them");
    line(r->retransmits, "retransmissions");
    line(r->body_bytes, "bytes of bodies, block by block");
}

static void print_codes(const struct gun_result *r)
{
    for (unsigned code = 0; code < 256; code++)
        if (r->by_code[code])
            printf("%14llu with code %u.%02u\n", (number)r->by_code[code],
                   code_class((uint8_t)code), code_detail((uint8_t)code));
}

static void print_faults(const struct gun_options *o, const struct gun_result *r)
{
    printf("%14llu without an answer in %.3g s, loss %.4f %%\n", (number)r->timeouts,
           o->timeout_ms / 1000.0, gun_loss(r) * 100);
    line(r->resets, "rejected with a RST");
    line(r->unsent, "due, but never sent");
    printf("%14llu wrong, %llu late, %llu duplicates\n", (number)r->wrong, (number)r->late,
           (number)r->duplicates);
    line(r->unexpected, "messages that belong to nothing");
    line(r->declined, "registrations without an Observe in the answer");
    line(r->pings, "pings");
}

static void print_observers(const struct gun_options *o, const struct gun_result *r)
{
    if (!o->observers)
        return;
    printf("%14llu observers registered, %llu refused\n", (number)r->registered,
           (number)r->refused);
    printf("%14.0f notifications/s, %llu in all, %llu of them old\n",
           r->seconds > 0 ? (double)r->notifications / r->seconds : 0, (number)r->notifications,
           (number)r->stale);
    if (histogram_total(&r->notify_ns))
        printf("%14.1f us from the state to the notification at the median, %.1f at 99 %%, %.1f "
               "at most\n",
               us(&r->notify_ns, 0.5), us(&r->notify_ns, 0.99),
               (double)r->notify_ns.largest / 1000);
}

static void print_origin(const struct gun_options *o, const struct gun_result *r)
{
    if (o->origin_given)
        printf("%14llu requests at the origin, %llu notifications from it\n",
               (number)r->origin_requests, (number)r->origin_notifications);
}

static void print_latency(const struct gun_result *r)
{
    const struct histogram *h = &r->latency_ns;

    printf("%14s %10s %10s %10s %10s %10s\n", "latency p50", "p90", "p99", "p99.9", "p99.99",
           "max, in us");
    printf("%14.1f %10.1f %10.1f %10.1f %10.1f %10.1f\n", us(h, 0.5), us(h, 0.9), us(h, 0.99),
           us(h, 0.999), us(h, 0.9999), (double)h->largest / 1000);
}

static void print_doubts(const struct gun_options *o, const struct gun_result *r)
{
    if (r->behind_ns > 1000000)
        printf("%14.1f us the longest that a request was sent late: it counts as latency\n",
               (double)r->behind_ns / 1000);
    if (r->mids_repeated && !o->raw)
        puts("               message IDs came again within 247 s: the server may have taken\n"
             "               requests for repeated ones; use more endpoints or less time");
}

static void print_ramp(const struct gun_ramp *ramp)
{
    const struct gun_step *best = NULL;

    if (ramp->count == 0)
        return;
    printf("%14s %14s %10s %10s %10s\n", "requests/s", "answers/s", "loss %", "p50 us", "p99 us");
    for (unsigned i = 0; i < ramp->count; i++) {
        const struct gun_step *s = &ramp->steps[i];

        printf("%14.0f %14.0f %10.4f %10.1f %10.1f  %s\n", s->offered, s->reached, s->loss * 100,
               (double)s->p50_ns / 1000, (double)s->p99_ns / 1000, s->good ? "good" : "too much");
        if (s->good && (!best || s->offered > best->offered))
            best = s;
    }
    if (best)
        printf("the highest rate that was good: %.0f requests/s; of that run:\n", best->offered);
    else
        puts("no rate was good; of the first run:");
}

static void print_security(const struct gun_options *o, const struct gun_security *s)
{
    const struct histogram *h = &s->latency_ns;

    printf("%14llu handshakes in %.2f s, %.0f/s, %u at a time, %s%s\n", (number)s->done, s->seconds,
           s->seconds > 0 ? (double)s->done / s->seconds : 0, o->handshakes,
           peer_suite_name(o->suite), o->cid ? ", with Connection IDs offered" : "");
    line(s->failed, "failed");
    if (s->failed)
        printf("               the first of them: %s\n", s->fault);
    if (s->done)
        printf("%14.1f us for one at the median, %.1f at 99 %%, %.1f at most\n", us(h, 0.5),
               us(h, 0.99), (double)h->largest / 1000);
    printf("%14.0f bytes of memory for each association\n", s->bytes_each);
    line(s->refused, "records refused");
    line(s->closed, "associations ended by the target");
}

void report_table(const struct gun_options *o, const struct gun_result *r,
                  const struct gun_ramp *ramp)
{
    if (r->security)
        print_security(o, r->security);
    if (r->security && (r->security->failed || o->duration_s == 0)) {
        fflush(stdout);
        return;
    }
    print_ramp(ramp);
    if (r->sent || r->unsent) {
        printf("%14.0f answers/s in %.2f s\n", gun_rate(r), r->seconds);
        printf("%14llu sent, %llu answered\n", (number)r->sent, (number)r->answered);
        print_kinds(r);
        print_codes(r);
    }
    print_faults(o, r);
    print_observers(o, r);
    print_origin(o, r);
    if (histogram_total(&r->latency_ns))
        print_latency(r);
    printf("%14.0f TSC cycles for each\n", each(r));
    print_doubts(o, r);
    fflush(stdout);
}

/* ---- JSON ---- */

static void put_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(out, "\\u%04x", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

static void put_number(FILE *out, const char *key, uint64_t value)
{
    fprintf(out, ", \"%s\": %llu", key, (number)value);
}

static void put_setup(FILE *out, const struct gun_options *o)
{
    static const char *const modes[] = {"closed", "open", "ramp"};

    fputs("{\"version\": \"" COAPGW_VERSION "\", \"command\": ", out);
    put_text(out, o->command ? o->command : "");
    fprintf(out, ", \"mode\": \"%s\", \"carrier\": ", modes[o->mode]);
    put_text(out, o->device ? o->device : "kernel");
    put_number(out, "endpoints", o->endpoints);
    put_number(out, "window", o->mode == GUN_CLOSED ? o->window : 0);
}

static void put_counts(FILE *out, const struct gun_result *r)
{
    fprintf(out, ", \"offered\": %.1f, \"seconds\": %.6f", r->offered, r->seconds);
    put_number(out, "sent", r->sent);
    put_number(out, "answered", r->answered);
    put_number(out, "timeouts", r->timeouts);
    put_number(out, "resets", r->resets);
    put_number(out, "unsent", r->unsent);
    put_number(out, "late", r->late);
    put_number(out, "duplicates", r->duplicates);
    put_number(out, "wrong", r->wrong);
    put_number(out, "unexpected", r->unexpected);
    put_number(out, "declined", r->declined);
    put_number(out, "messages", r->messages);
    put_number(out, "retransmits", r->retransmits);
    put_number(out, "pings", r->pings);
    put_number(out, "body_bytes", r->body_bytes);
    put_number(out, "behind_ns", r->behind_ns);
    fprintf(out, ", \"mids_repeated\": %s", r->mids_repeated ? "true" : "false");
    fprintf(out, ", \"loss\": %.8f, \"rate\": %.1f, \"cycles_each\": %.1f", gun_loss(r),
            gun_rate(r), each(r));
}

static void put_latency(FILE *out, const char *prefix, const struct histogram *h)
{
    static const struct {
        const char *name;
        double share;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"p9999", 0.9999}};

    for (unsigned i = 0; i < sizeof(points) / sizeof(*points); i++)
        fprintf(out, ", \"%s%s_ns\": %llu", prefix, points[i].name,
                (number)histogram_at(h, points[i].share));
    fprintf(out, ", \"%smax_ns\": %llu", prefix, (number)h->largest);
}

static void put_kinds(FILE *out, const struct gun_result *r)
{
    const char *comma = "";

    fputs(", \"kinds\": {", out);
    for (unsigned kind = 0; kind < GUN_KINDS; kind++)
        if (r->by_kind[kind]) {
            fprintf(out, "%s\"%s\": %llu", comma, gun_kind_names[kind], (number)r->by_kind[kind]);
            comma = ", ";
        }
    comma = "";
    fputs("}, \"codes\": {", out);
    for (unsigned code = 0; code < 256; code++)
        if (r->by_code[code]) {
            fprintf(out, "%s\"%u.%02u\": %llu", comma, code_class((uint8_t)code),
                    code_detail((uint8_t)code), (number)r->by_code[code]);
            comma = ", ";
        }
    fputs("}", out);
}

static void put_security(FILE *out, const struct gun_options *o, const struct gun_security *s)
{
    fprintf(out, ", \"suite\": \"%s\"", peer_suite_name(o->suite));
    put_number(out, "handshakes", s->done);
    put_number(out, "handshakes_failed", s->failed);
    fputs(", \"handshake_fault\": ", out);
    put_text(out, s->fault);
    fprintf(out, ", \"handshake_seconds\": %.6f, \"association_bytes\": %.1f", s->seconds,
            s->bytes_each);
    put_latency(out, "handshake_", &s->latency_ns);
    put_number(out, "records_refused", s->refused);
    put_number(out, "associations_closed", s->closed);
}

static void put_ramp(FILE *out, const struct gun_ramp *ramp)
{
    fputs(", \"steps\": [", out);
    for (unsigned i = 0; i < ramp->count; i++) {
        const struct gun_step *s = &ramp->steps[i];

        fprintf(out,
                "%s{\"requests\": %.1f, \"answers\": %.1f, \"lost\": %.8f, \"median_ns\": %llu, "
                "\"tail_ns\": %llu, \"good\": %s}",
                i ? ", " : "", s->offered, s->reached, s->loss, (number)s->p50_ns,
                (number)s->p99_ns, s->good ? "true" : "false");
    }
    fputs("]", out);
}

int report_json(const struct gun_options *o, const struct gun_result *r,
                const struct gun_ramp *ramp)
{
    FILE *out = fopen(o->json, "we");
    int failed;

    if (!out) {
        fprintf(stderr, "coapgun: --json %s: %s\n", o->json, strerror(errno));
        return -errno;
    }
    put_setup(out, o);
    put_counts(out, r);
    put_latency(out, "", &r->latency_ns);
    put_kinds(out, r);
    put_number(out, "registered", r->registered);
    put_number(out, "refused", r->refused);
    put_number(out, "notifications", r->notifications);
    put_number(out, "stale", r->stale);
    fprintf(out, ", \"notify_rate\": %.1f",
            r->seconds > 0 ? (double)r->notifications / r->seconds : 0);
    put_latency(out, "notify_", &r->notify_ns);
    put_number(out, "origin_requests", r->origin_requests);
    put_number(out, "origin_registrations", r->origin_registrations);
    put_number(out, "origin_notifications", r->origin_notifications);
    if (r->security)
        put_security(out, o, r->security);
    put_ramp(out, ramp);
    fputs("}\n", out);
    failed = ferror(out) | fclose(out);
    if (failed)
        fprintf(stderr, "coapgun: --json %s: cannot be written\n", o->json);
    return failed ? -EIO : 0;
}
