/* dtlspeer: the DTLS client of the tests on real sockets, driven by a script. What its files share.
 * One thread, one socket, one association at a time; struct tool belongs to main(). */
#ifndef COAPGW_TESTS_DTLS_DTLSPEER_H
#define COAPGW_TESTS_DTLS_DTLSPEER_H

#include <sys/socket.h>

#include "gateway/coap/message.h"
#include "tests/dtls/peer.h"

#define SECOND_US        1000000u
#define COAP_MAX         1400 /* bytes of a request */
#define OBSERVATIONS_MAX 8
#define TOOL_TOKEN_BYTES 4
#define FOREVER          UINT64_MAX

/* The request that a step waits for. */
struct request {
    bool waiting, acknowledged, reset;
    uint16_t mid;
    uint32_t token;
    uint8_t tries;
    uint64_t repeat_us, timeout_us;
    size_t length;
    uint8_t message[COAP_MAX];
};

struct observation {
    uint32_t token;
    int last_mid; /* of the newest notification; -1: none has come */
};

struct tool {
    struct peer_crypto *crypto;
    struct peer_setup setup;
    struct peer peer; /* all zero before the first connect */
    struct sockaddr_storage server;
    socklen_t server_length;
    int fd, other_fd; /* the one before the last rebind, or -1 */
    uint64_t timeout_us;
    bool raw;      /* application data is text, not CoAP */
    bool has_last; /* a datagram was sent on this association */
    size_t last_length, received_length;
    uint64_t datagrams; /* received */
    int alert;          /* description of the last one; -1: none has come */
    uint32_t next_token;
    uint16_t next_mid;
    struct request request;
    struct observation observations[OBSERVATIONS_MAX];
    unsigned observation_count, notifications, notifications_seen;
    uint8_t echo[40]; /* of the last 4.01; goes into the next request */
    size_t echo_length;
    struct peer_session session;
    uint8_t ticket[UINT16_MAX];
    uint8_t last[PEER_RECORD_MAX];
    char received[PEER_CONTENT_MAX + 1]; /* raw text since the last `expect` */
};

uint64_t clock_us(void);

/* dtlspeer_link.c */
/* A new socket to the server, bound to `address` (text) or to any (NULL); the one before becomes
 * the other one. 0 or negative errno. */
int link_open(struct tool *t, const char *address);
/* Waits for datagrams, timers, `until_us` or input on `input` (-1: none), and handles what comes.
 * True when there is input. */
bool link_turn(struct tool *t, uint64_t until_us, int input);
/* Turns until `done`, at most for `wait_us`; whether it is done. */
bool link_wait(struct tool *t, bool (*done)(const struct tool *), uint64_t wait_us);
int link_send(struct tool *t, const uint8_t *datagram, size_t length);
extern const struct peer_events link_events;

/* dtlspeer_coap.c */
/* Sends a confirmable request. `observe`: with Observe 0; its token stays known. 0, -EINVAL for a
 * path that is none, -EMSGSIZE, or what peer_write() says. */
int coap_request(struct tool *t, uint8_t code, const char *path, const char *text, bool observe);
void coap_receive(struct tool *t, const uint8_t *data, size_t length);
void coap_advance(struct tool *t, uint64_t now_us);
uint64_t coap_next_us(const struct tool *t);

/* A line of output with what is not printable as \xNN. */
void print_text(const char *before, const void *data, size_t length);

/* dtlspeer_steps.c: one line of the script. 0, or -1 when it did not do what it says; it has said
 * why. */
int step_run(struct tool *t, char *line);

#endif
