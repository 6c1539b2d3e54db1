/* Answers that take their time.
 *
 *   GET /async       answers after 5 s
 *   GET /async?30    after 30 s; 1 to 3600
 *
 * The client gets an Empty ACK meanwhile, and then a separate response (RFC 7252 5.2.2). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <coapgw/module.h>

#define DELAY_S     5
#define DELAY_MAX_S 3600

static const struct coapgw_api *api;

/* Seconds from the query; 0: something else stands there. */
static uint32_t read_delay(const struct coapgw_request *request)
{
    uint32_t seconds = 0;

    if (request->query_count == 0)
        return DELAY_S;
    if (request->query_count > 1 || request->query[0].length > 4)
        return 0;
    for (size_t i = 0; i < request->query[0].length; i++) {
        uint8_t c = request->query[0].data[i];

        if (c < '0' || c > '9')
            return 0;
        seconds = seconds * 10 + (uint32_t)(c - '0');
    }
    return seconds <= DELAY_MAX_S ? seconds : 0;
}

static void refuse(struct coapgw_response *response, uint8_t code, const char *why)
{
    api->code(response, code);
    api->write(response, why, strlen(why));
}

static void begin(const struct coapgw_request *request, struct coapgw_response *response,
                  uint32_t delay_s)
{
    switch (api->async_register(request, delay_s * 1000, NULL)) {
    case 0:
        return; /* no code: it comes in the second pass */
    case -EEXIST:
        refuse(response, COAPGW_BAD_REQUEST, "a request with this token is waiting already");
        return;
    default:
        refuse(response, COAPGW_UNAVAILABLE, "too many requests are waiting");
        return;
    }
}

static void handle(void *state, const struct coapgw_request *request,
                   struct coapgw_response *response)
{
    uint32_t delay_s = read_delay(request);
    char text[40];

    (void)state;
    if (request->path_count) {
        api->code(response, COAPGW_NOT_FOUND);
    } else if (request->method != COAPGW_GET) {
        api->code(response, COAPGW_METHOD_NOT_ALLOWED);
    } else if (delay_s == 0) {
        refuse(response, COAPGW_BAD_REQUEST, "ask for 1 to 3600 seconds");
    } else if (request->pass == COAPGW_PASS_ASYNC) {
        snprintf(text, sizeof(text), "done after %u s", delay_s);
        api->code(response, COAPGW_CONTENT);
        api->add_uint(response, COAPGW_OPTION_CONTENT_FORMAT, COAPGW_FORMAT_TEXT);
        api->add_uint(response, COAPGW_OPTION_MAX_AGE, 0);
        api->write(response, text, strlen(text));
    } else {
        begin(request, response, delay_s);
    }
}

/* Nothing is kept: the gateway has the requests that wait. */
static int start(const struct coapgw_start *start, void **state)
{
    if (start->options[0]) {
        snprintf(start->reason, COAPGW_REASON_BYTES, "there are no options");
        return -EINVAL;
    }
    *state = NULL;
    return 0;
}

static void stop(void *state)
{
    (void)state;
}

static const struct coapgw_module module = {
    .abi = COAPGW_MODULE_ABI,
    .size = sizeof(module),
    .name = "async",
    .start = start,
    .stop = stop,
    .handle = handle,
};

const struct coapgw_module *coapgw_module_init(const struct coapgw_api *gateway)
{
    api = gateway;
    return &module;
}
