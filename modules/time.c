/* A time server.
 *
 *   GET /time          2026-11-21T11:11:02Z (RFC 3339)
 *   GET /time?secs     seconds since 1970
 *   GET /time?ticks    thousandths of a second since 1970
 *   PUT /time          sets it, to seconds since 1970; with the option "settable" only
 *
 * All of them can be observed, and change each second. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coapgw/module.h>

#define SECOND_US   1000000
#define DAY_S       86400
#define DIGITS_MAX  11             /* of seconds since 1970 */
#define SECONDS_MAX 253402300799ll /* the last second of the year 9999 */

/* An instance: there is one for each worker. */
struct clock {
    struct coapgw_instance *instance;
    coapgw_timer second; /* the next one */
    bool settable;
};

static const struct coapgw_api *api;

/* How far the time that was set is ahead of the gateway's. The one thing that instances share: the
 * time is the same whichever worker a client has come to. */
static _Atomic int64_t ahead_us;

static int64_t now_us(const struct clock *clock)
{
    return (int64_t)api->now_us(clock->instance) + ahead_us;
}

/* ---- text ---- */

struct date {
    int64_t year;
    unsigned month, day;
};

/* Days since 1970 to a date of the Gregorian calendar. gmtime() might look into files, and wait for
 * other threads. Years begin in March here, so that the leap day is the last one. */
static struct date date_of(int64_t days)
{
    int64_t since = days + 719468; /* 0000-03-01 */
    int64_t era = since / 146097;  /* of 400 years */
    unsigned day = (unsigned)(since - era * 146097);
    unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    unsigned in_year = day - (365 * year + year / 4 - year / 100);
    unsigned month = (5 * in_year + 2) / 153; /* 0 is March */

    return (struct date){.year = era * 400 + year + (month >= 10),
                         .month = month < 10 ? month + 3 : month - 9,
                         .day = in_year - (153 * month + 2) / 5 + 1};
}

static int format_time(char *out, size_t room, int64_t us)
{
    int64_t seconds = us / SECOND_US;
    struct date d = date_of(seconds / DAY_S);
    unsigned second = (unsigned)(seconds % DAY_S);

    return snprintf(out, room, "%04lld-%02u-%02uT%02u:%02u:%02uZ", (long long)d.year, d.month,
                    d.day, second / 3600, second / 60 % 60, second % 60);
}

static bool is_text(const struct coapgw_bytes *bytes, const char *text)
{
    return bytes->length == strlen(text) && memcmp(bytes->data, text, bytes->length) == 0;
}

/* ---- requests ---- */

static void refuse(struct coapgw_response *response, uint8_t code, const char *why)
{
    api->code(response, code);
    api->write(response, why, strlen(why));
}

static void get(const struct clock *clock, const struct coapgw_request *request,
                struct coapgw_response *response)
{
    int64_t accept = api->option_uint(request, COAPGW_OPTION_ACCEPT);
    int64_t us = now_us(clock);
    char text[40];
    int length;

    if (accept >= 0 && accept != COAPGW_FORMAT_TEXT) {
        refuse(response, COAPGW_NOT_ACCEPTABLE, "the time is text");
        return;
    }
    if (request->query_count == 0) {
        length = format_time(text, sizeof(text), us);
    } else if (request->query_count == 1 && is_text(&request->query[0], "secs")) {
        length = snprintf(text, sizeof(text), "%lld", (long long)(us / SECOND_US));
    } else if (request->query_count == 1 && is_text(&request->query[0], "ticks")) {
        length = snprintf(text, sizeof(text), "%lld", (long long)(us / 1000));
    } else {
        refuse(response, COAPGW_BAD_REQUEST, "ask for nothing, secs or ticks");
        return;
    }
    api->code(response, COAPGW_CONTENT);
    api->add_uint(response, COAPGW_OPTION_CONTENT_FORMAT, COAPGW_FORMAT_TEXT);
    api->add_uint(response, COAPGW_OPTION_MAX_AGE, 1);
    api->write(response, text, (size_t)length);
    api->observable(response);
}

/* Decimal digits; -1: something else. */
static int64_t read_seconds(const struct coapgw_bytes *text)
{
    int64_t seconds = 0;

    if (text->length == 0 || text->length > DIGITS_MAX + 1)
        return -1;
    for (size_t i = 0; i < text->length; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return -1;
        seconds = seconds * 10 + (text->data[i] - '0');
    }
    return seconds <= SECONDS_MAX ? seconds : -1;
}

/* To the beginning of the next second. */
static int wait_for_second(struct clock *clock)
{
    int64_t left_us = SECOND_US - now_us(clock) % SECOND_US;

    return api->timer_start(clock->instance, (uint32_t)((left_us + 999) / 1000), 0, &clock->second);
}

static void put(struct clock *clock, const struct coapgw_request *request,
                struct coapgw_response *response)
{
    int64_t seconds = read_seconds(&request->payload);

    if (seconds < 0) {
        refuse(response, COAPGW_BAD_REQUEST, "seconds since 1970 are wanted");
        return;
    }
    ahead_us = seconds * SECOND_US - (int64_t)api->now_us(clock->instance);
    api->notify(clock->instance, NULL, 0);
    api->timer_cancel(clock->instance, clock->second); /* seconds begin anew */
    wait_for_second(clock);                            /* there is room: one has just gone */
    api->code(response, COAPGW_CHANGED);
}

static void handle(void *state, const struct coapgw_request *request,
                   struct coapgw_response *response)
{
    struct clock *clock = state;

    if (request->path_count)
        api->code(response, COAPGW_NOT_FOUND);
    else if (request->method == COAPGW_GET)
        get(clock, request, response);
    else if (request->method == COAPGW_PUT && clock->settable)
        put(clock, request, response);
    else
        api->code(response, COAPGW_METHOD_NOT_ALLOWED);
}

/* ---- each second ---- */

static void on_second(void *state, coapgw_timer timer, uint64_t argument)
{
    struct clock *clock = state;

    (void)timer;
    (void)argument;
    api->notify(clock->instance, NULL, 0);
    wait_for_second(clock);
}

/* ---- start and end ---- */

static int check(const char *options, char *reason)
{
    if (options[0] == 0 || strcmp(options, "settable") == 0)
        return 0;
    snprintf(reason, COAPGW_REASON_BYTES,
             "unknown options \"%.60s\"; write \"settable\" or nothing", options);
    return -EINVAL;
}

static int start(const struct coapgw_start *start, void **state)
{
    struct clock *clock = calloc(1, sizeof(*clock));
    int err;

    if (!clock)
        return -ENOMEM;
    clock->instance = start->instance;
    clock->settable = start->options[0] != 0;
    err = wait_for_second(clock);
    if (err) {
        free(clock);
        return err;
    }
    *state = clock;
    return 0;
}

static const struct coapgw_module module = {
    .abi = COAPGW_MODULE_ABI,
    .size = sizeof(module),
    .name = "time",
    .check = check,
    .start = start,
    .stop = free,
    .handle = handle,
    .timer = on_second,
};

const struct coapgw_module *coapgw_module_init(const struct coapgw_api *gateway)
{
    api = gateway;
    return &module;
}
