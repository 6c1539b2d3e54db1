/* coapgw-fleet: many simulated CoAP devices in one process, on kernel sockets.
 *
 *   main.c      the command line, the loop
 *   link.c      sockets, datagrams in and out in batches
 *   secure.c    DTLS between them and what a device does, when asked for
 *   spans.c     sets of numbers, exact
 *   device.c    what a device does: registers, cancels, acknowledges, sends again (RFC 7252, 7641)
 *   judge.c     what the gateway must not do, and who remembers what it did
 *   command.c   what a test says on stdin, one line each, and the JSON line that answers it
 *   clock.c     timers
 *   trace.c     all messages as text, when asked for
 *
 * A device has an address and a port of its own; for that, all addresses have to be local to the
 * network namespace ("ip route add local 10.100.0.0/16 dev lo"). It watches resources "/s/0",
 * "/s/1", ... whose representation is "NUMBER STATE", in decimal; the state only grows. All times
 * are in microseconds of the monotonic clock. One thread. */
#ifndef COAPGW_TESTS_FLEET_H
#define COAPGW_TESTS_FLEET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/coap/message.h"

#define MS     UINT64_C(1000)
#define SECOND UINT64_C(1000000)

#define DEVICES_MAX  1000000
#define SLOTS_MAX    16
#define SOCKETS_MAX  64
#define PLACES       4 /* ports that a device over DTLS moves between */
#define TOKEN_BYTES  8
#define PAST_COUNT   8         /* relations that a watch remembers when they are over */
#define REQUEST_MAX  96        /* bytes of the longest request */
#define TOUCH_SLOT   UINT8_MAX /* in tokens of requests that are no watch's */
#define KEY_MAX      32        /* bytes */
#define DATAGRAM_OUT 512       /* bytes of the longest datagram that is sent */
#define KILLS_MAX    4096
#define COMPLAINTS   40   /* violations that are kept as text */
#define LATENCY_UNIT 1000 /* of the histogram: 1 ms */

struct timer {
    struct timer *next, **back; /* back: NULL when it is not armed */
    uint64_t due;
};

/* ---- what a device is ---- */

enum watch_state {
    WATCH_IDLE,
    WATCH_REGISTERING, /* acceptance not seen yet */
    WATCH_ACTIVE,      /* seen: it must not be lost any more */
    WATCH_CANCELLING,
};

enum past_how {
    PAST_CANCELLED, /* the gateway has answered a cancellation */
    PAST_RESET,     /* a notification was rejected */
    PAST_DROPPED,   /* refused, or ended by the gateway */
};

/* A relation that is over. */
struct past {
    uint8_t token[TOKEN_BYTES];
    uint8_t token_length;
    uint8_t how;     /* enum past_how */
    uint8_t ignored; /* Resets that did not end it */
    bool has_number;
    uint32_t number;   /* the last one */
    uint64_t at;       /* when it ended */
    uint64_t reset_at; /* when it was rejected last; 0: never */
};

/* What a device thinks of one relation. */
struct watch {
    struct timer timer; /* its next whim */
    uint32_t device;
    uint32_t path;
    uint8_t slot;
    uint8_t state; /* enum watch_state */
    uint8_t token[TOKEN_BYTES];
    uint8_t token_length;
    uint16_t generation; /* counts tokens */
    bool has_number, has_content;
    bool reset_next; /* the next notification will be rejected */
    bool owed;       /* the gateway was restarted, and has not said anything since */
    bool has_floor;
    uint32_t number, content;
    uint32_t floor; /* the last number of before the last kill */
    uint64_t number_at, accepted_at;
    struct past past[PAST_COUNT];
    unsigned past_count;
};

enum request_kind { REQUEST_NONE, REQUEST_REGISTER, REQUEST_CANCEL, REQUEST_TOUCH };

/* One request at a time is under way (NSTART). */
struct device {
    struct timer timer; /* of the request */
    struct watch *watches;
    uint32_t index;
    uint16_t next_mid;
    uint16_t mid; /* of the request */
    uint8_t request;
    uint8_t slot;
    uint8_t sends;
    bool acknowledged;
    bool mute; /* it hears, and says nothing any more */
    uint32_t wait_us;
    uint64_t asked_at;
};

struct options {
    struct sockaddr_in gateway;
    uint32_t first;   /* address of device 0, host byte order */
    uint16_t port;    /* of the first socket */
    unsigned sockets; /* devices on one address */
    unsigned devices, slots, paths;
    uint8_t key[KEY_MAX]; /* of all devices, over DTLS */
    uint8_t key_length;   /* 0: no DTLS */
    const char *prefix;   /* first segment of the paths */
    uint64_t seed;
    uint64_t mean_us; /* between two whims of a watch */
    uint64_t ack_timeout_us;
    unsigned max_retransmit;
    uint64_t grace_us;    /* how long what was under way may still come */
    uint64_t patience_us; /* for an answer that was promised with an empty ACK */
};

/* Names and meanings; all of them stand in the report. */
#define FLEET_COUNTERS(X)                                                                       \
    X(sent)             /* datagrams */                                                         \
    X(unsent)           /* datagrams that the kernel refused */                                 \
    X(received)         /* datagrams */                                                         \
    X(requests)         /* not counting repetitions */                                          \
    X(repeated)         /* requests that were sent again */                                     \
    X(gave_up)          /* requests without an answer after all repetitions */                  \
    X(reissued)         /* requests whose promised answer did not come */                       \
    X(accepted)         /* registrations with a new token */                                    \
    X(refreshed)        /* registrations with the token of one that was accepted before */      \
    X(refused)          /* registrations answered without Observe */                            \
    X(cancelled)        /* cancellations that were answered */                                  \
    X(rejected)         /* notifications answered with a Reset */                               \
    X(notifications)    /* with a message ID that is new */                                     \
    X(confirmable)      /* of these */                                                          \
    X(retransmissions)  /* confirmable messages that came again */                              \
    X(ended)            /* relations that the gateway ended with an error */                    \
    X(pings)            /* empty confirmable messages */                                        \
    X(resets)           /* Resets from the gateway */                                           \
    X(strays)           /* answers that nobody waits for */                                     \
    X(touched)          /* plain requests that were answered */                                 \
    X(checked)          /* relations that were owed a notification and got it */                \
    X(checked_non)      /* of these: the first one was not confirmable */                       \
    X(equal_answers)    /* answers to registrations with the number of the last notification */ \
    X(replayed_answers) /* and with an older one, to requests that were repeated */             \
    X(excused)          /* notifications of what was cancelled shortly before a kill */         \
    X(handshakes)       /* that are done */                                                     \
    X(records)          /* under a key of the gateway's: each has a number of its own */        \
    X(moved)            /* changes of a port */                                                 \
    X(left_behind)      /* datagrams to a port that the device had left */                      \
    X(late)             /* repetitions of notifications that were lost, after newer ones */

/* What must not be. */
#define FLEET_VIOLATIONS(X)                                                                \
    X(malformed)          /* a message that is none */                                     \
    X(number_back)        /* an Observe number older than the last (RFC 7641 3.4) */       \
    X(number_same)        /* a notification that came twice under different message IDs */ \
    X(mid_reused)         /* a message ID within EXCHANGE_LIFETIME, for another message */ \
    X(non_repeated)       /* a non-confirmable message that came twice */                  \
    X(cancelled_notified) /* a notification of what was cancelled */                       \
    X(reset_ignored)      /* a notification of what was rejected more than once */         \
    X(content_back)       /* an older state than the one before */                         \
    X(content_wrong)      /* the representation of another resource, or none */            \
    X(unknown_token)      /* a token that the device never sent */                         \
    X(unexpected)         /* a request, or an answer of a kind that cannot be */           \
    X(sequence_reused)    /* a sequence number that came twice under one key */            \
    X(nonce_other)        /* an explicit nonce that does not follow from it */             \
    X(record_refused)     /* a record that the device cannot open, or of a handshake */    \
    X(association_lost)   /* a handshake that failed, or an association that was ended */  \
    X(address_left)       /* what still comes where a device has not been for long */

enum violation {
#define X(name) VIOLATION_##name,
    FLEET_VIOLATIONS(X)
#undef X
        VIOLATION_COUNT
};

struct fleet {
    struct options options;
    struct device *devices;
    struct watch *watches;
    uint64_t now;
    uint64_t random;
    bool running;
    bool killed;           /* the gateway, once */
    unsigned under_way;    /* devices with a request */
    unsigned connecting;   /* devices with a handshake */
    unsigned owed;         /* watches */
    unsigned active;       /* watches */
    unsigned cancelling;   /* watches */
    uint64_t owed_done_at; /* when the last that was owed got its notification */
    uint64_t last_heard;   /* the last notification of all */
#define X(name) uint64_t name;
    FLEET_COUNTERS(X)
#undef X
    uint64_t codes[256]; /* answers, by code */
    uint64_t violations[VIOLATION_COUNT];
    char complaints[COMPLAINTS][200];
    unsigned complaint_count;
};

extern struct fleet fleet;

/* ---- clock.c ---- */

uint64_t clock_now(void);
void clock_start(void);
void timer_arm(struct timer *t, uint64_t due);
void timer_cancel(struct timer *t);
/* The next timer that is due, no longer armed, or NULL. */
struct timer *clock_expired(void);

/* ---- link.c ---- */

/* Opens the sockets; ends the process when it cannot. */
void link_open(void);
/* Receives for up to `wait_ms`; false when stdin has something to read, too. */
bool link_turn(int wait_ms);
/* Sends a datagram from one of a device's places, at the latest with link_flush(). */
void link_send(const struct device *d, unsigned place, const uint8_t *data, size_t length);
void link_flush(void);
/* The device's address and the port of its first place as text. */
void link_name(const struct device *d, char text[32]);

/* ---- secure.c ---- */

void secure_create(void);
/* A message of a device; over DTLS, its association has to be there. */
void secure_send(const struct device *d, const uint8_t *data, size_t length);
/* A datagram that has come to one of its places. */
void secure_receive(struct device *d, unsigned place, const uint8_t *data, size_t length);
/* Begins the handshake; false when the device has begun before. */
bool secure_connect(const struct device *d);
/* The device goes on from another port; false for one that cannot (RFC 9146). It sends something to
 * be found: a plain request, unless there is one under way that is going to be repeated. */
bool secure_move(struct device *d);
bool secure_is_used(void);
/* Something came to the place where it is. */
bool secure_is_found(const struct device *d);
/* What the store may not know: who was found in a new place from then on lets itself be found
 * again.
 */
void secure_gateway_down(uint64_t since);
/* False for a timer that is not one of a handshake. */
bool secure_expire(struct timer *t);

/* ---- device.c ---- */

uint32_t random_below(uint32_t limit);
void devices_create(void);
void device_receive(struct device *d, const uint8_t *data, size_t length);
void devices_expire(struct timer *t);
/* All watches get whims, or no more of them. */
void devices_run(bool run);
/* Registers a watch that is idle; false when its device is busy. */
bool watch_open(struct watch *w);
/* A GET of "/PREFIX/0" without Observe; false when the device is busy. */
bool device_touch(struct device *d);

/* ---- judge.c ---- */

__attribute__((format(printf, 3, 4))) void judge_complain(const struct device *d,
                                                          enum violation what, const char *why,
                                                          ...);

/* What the gateway sends with message IDs of its own. */
enum judge_seen { SEEN_NEW, SEEN_AGAIN, SEEN_AGAIN_RESET };
enum judge_seen judge_mid(const struct device *d, const struct message *m);
/* That message was answered with a Reset: so will be its repetitions. */
void judge_mid_reset(const struct device *d, uint16_t mid);

/* A number that came with a token; `answer`: to a registration, which was sent `sends` times.
 * Whether it is newer than all before it. */
bool judge_number(const struct device *d, struct watch *w, uint32_t number, bool answer,
                  unsigned sends);
/* A notification over DTLS that is repeated after a newer one has come. What was sent first was
 * lost on the way: it went where the device was before, or the gateway had no sequence number for
 * it, as the store had not confirmed any after the restart. Over a restart, numbers do not go back.
 */
bool judge_is_late(const struct watch *w, const struct message *m);
void judge_content(const struct device *d, struct watch *w, const struct message *m, bool newest);
/* A notification for a relation that is over. */
void judge_past(const struct device *d, struct watch *w, const struct message *m);

/* It was cancelled so long ago that nothing of it can be left. */
bool judge_is_over(const struct past *p);

/* The gateway has been killed; the store is about to be, or has all again that the gateway has. */
void judge_gateway_down(void);
void judge_store(bool up);

/* ---- trace.c ---- */

/* Ends the process when it cannot. */
void trace_open(const char *name);
/* Nothing without trace_open(). */
void trace(const struct device *d, const char *way, const uint8_t *data, size_t length);

/* ---- command.c ---- */

/* Reads stdin; false at its end or when told to quit. */
bool command_read(void);
/* Ends a command that waits, when it can. */
void command_poll(void);

#endif
