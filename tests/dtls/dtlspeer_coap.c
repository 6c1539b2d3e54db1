/* dtlspeer: as much CoAP as the steps take (RFC 7252 4, RFC 7641 3). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/coap/uri.h"
#include "tests/dtls/dtlspeer.h"

#define ACK_TIMEOUT_US (2 * SECOND_US)
#define TRIES          5 /* MAX_RETRANSMIT and the first one */

void print_text(const char *before, const void *data, size_t length)
{
    const uint8_t *bytes = data;

    fputs(before, stdout);
    for (size_t i = 0; i < length; i++)
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '\\')
            putchar(bytes[i]);
        else
            printf("\\x%02x", bytes[i]);
    putchar('\n');
}

/* Each part of `text` as an option. */
static int add_parts(struct encoder *e, uint16_t number, const char *text, size_t length,
                     const char *border)
{
    uint8_t value[COAP_MAX];
    size_t part;
    int size;

    while (length > 0) {
        for (part = 0; part < length && text[part] != border[0]; part++)
            ;
        size = part < sizeof(value) ? uri_decode(text, part, value) : -EMSGSIZE;
        if (size < 0)
            return size;
        encoder_option(e, number, value, (size_t)size);
        part += part < length;
        text += part;
        length -= part;
    }
    return 0;
}

/* What the last 4.01 asked for is given back once (RFC 9175 2.3). */
static void add_echo(struct tool *t, struct encoder *e)
{
    if (t->echo_length)
        encoder_option(e, OPTION_ECHO, t->echo, t->echo_length);
    t->echo_length = 0;
}

static int encode(struct tool *t, uint8_t code, const char *path, const char *text, bool observe)
{
    struct request *r = &t->request;
    size_t length = strcspn(path, "?");
    uint8_t token[TOOL_TOKEN_BYTES];
    struct encoder e;
    int error;

    memcpy(token, &r->token, sizeof(token));
    encoder_begin(&e, r->message, sizeof(r->message), TYPE_CON, code, r->mid, token, sizeof(token));
    if (observe)
        encoder_uint(&e, OPTION_OBSERVE, 0);
    error = add_parts(&e, OPTION_URI_PATH, path + 1, length - 1, "/");
    if (error == 0 && text)
        encoder_uint(&e, OPTION_CONTENT_FORMAT, 0);
    if (error == 0 && path[length])
        error = add_parts(&e, OPTION_URI_QUERY, path + length + 1, strlen(path + length + 1), "&");
    if (error < 0)
        return error;
    add_echo(t, &e);
    encoder_payload(&e, text, text ? strlen(text) : 0);
    r->length = encoder_end(&e);
    return r->length ? 0 : -EMSGSIZE;
}

int coap_request(struct tool *t, uint8_t code, const char *path, const char *text, bool observe)
{
    struct request *r = &t->request;
    int error;

    if (path[0] != '/' || (observe && t->observation_count == OBSERVATIONS_MAX))
        return -EINVAL;
    *r = (struct request){
        .waiting = true,
        .mid = t->next_mid++,
        .token = t->next_token++,
        .tries = 1,
        .timeout_us = ACK_TIMEOUT_US,
        .repeat_us = clock_us() + ACK_TIMEOUT_US,
    };
    error = encode(t, code, path, text, observe);
    if (error == 0)
        error = peer_write(&t->peer, r->message, r->length);
    if (error < 0)
        r->waiting = false;
    else if (observe)
        t->observations[t->observation_count++] =
            (struct observation){.token = r->token, .last_mid = -1};
    return error;
}

static void answer_empty(struct tool *t, enum message_type type, uint16_t mid)
{
    uint8_t message[MESSAGE_HEADER_BYTES];

    message_write_empty(message, type, mid);
    peer_write(&t->peer, message, sizeof(message));
}

static void print_message(const char *word, const struct message *m)
{
    char before[64];

    if (message_has(m, SLOT_OBSERVE))
        snprintf(before, sizeof(before), "%s %u.%02u observe=%u ", word, code_class(m->code),
                 code_detail(m->code), message_uint(m, SLOT_OBSERVE, 0));
    else
        snprintf(before, sizeof(before), "%s %u.%02u ", word, code_class(m->code),
                 code_detail(m->code));
    print_text(before, m->payload, m->payload_length);
}

static struct observation *find_observation(struct tool *t, uint32_t token)
{
    for (unsigned i = 0; i < t->observation_count; i++)
        if (t->observations[i].token == token)
            return &t->observations[i];
    return NULL;
}

static void keep_echo(struct tool *t, const struct message *m)
{
    const struct option_view *echo = &m->first[SLOT_ECHO];

    if (!message_has(m, SLOT_ECHO) || m->code != CODE_UNAUTHORIZED ||
        echo->length > sizeof(t->echo))
        return;
    memcpy(t->echo, echo->value, echo->length);
    t->echo_length = echo->length;
}

static void take_response(struct tool *t, const struct message *m)
{
    struct observation *o;
    uint32_t token;

    memcpy(&token, m->token, sizeof(token));
    o = find_observation(t, token);
    if (t->request.waiting && t->request.token == token) {
        t->request.waiting = false;
        keep_echo(t, m);
        print_message("answer", m);
    } else if (o && o->last_mid != m->mid) {
        t->notifications++;
        print_message("notification", m);
    } else if (!o && m->type == TYPE_CON && t->request.token != token) {
        answer_empty(t, TYPE_RST, m->mid);
        return;
    }
    if (o)
        o->last_mid = m->mid;
    if (m->type == TYPE_CON)
        answer_empty(t, TYPE_ACK, m->mid);
}

void coap_receive(struct tool *t, const uint8_t *data, size_t length)
{
    struct request *r = &t->request;
    struct message m;

    if (message_parse(data, length, &m) != VERDICT_OK) {
        print_text("malformed ", data, length);
        return;
    }
    if (code_is_response(m.code) && m.token_length == TOOL_TOKEN_BYTES) {
        take_response(t, &m);
    } else if (m.code == CODE_EMPTY && m.type == TYPE_CON) {
        answer_empty(t, TYPE_RST, m.mid); /* a ping */
    } else if (m.code == CODE_EMPTY && r->waiting && m.mid == r->mid) {
        r->acknowledged = true;
        r->reset = m.type == TYPE_RST;
        r->waiting = !r->reset;
    }
}

void coap_advance(struct tool *t, uint64_t now_us)
{
    struct request *r = &t->request;

    if (now_us < coap_next_us(t))
        return;
    r->tries++;
    r->timeout_us *= 2;
    r->repeat_us = now_us + r->timeout_us;
    peer_write(&t->peer, r->message, r->length);
}

uint64_t coap_next_us(const struct tool *t)
{
    const struct request *r = &t->request;

    return r->waiting && !r->acknowledged && r->tries < TRIES ? r->repeat_us : FOREVER;
}
