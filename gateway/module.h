/* The interface that modules are written against: shared objects of C code that answer requests for
 * what lies below a route's path.
 *
 *   routes:
 *     - path: /time
 *       module: {file: /usr/lib/coapgw/modules/time.so, options: "settable"}
 *
 * A module exports one function, coapgw_module_init(). The gateway makes one instance of it for
 * each route that names it and each worker: coapgw_module.start(), and stop() at the end. From then
 * on all functions of an instance are called by its worker's thread, one at a time, never within
 * one another. Instances share nothing; what a module lets them share needs atomics. Sessions, and
 * with them a client's requests, always come to the same worker.
 *
 * A WORKER SERVES TENS OF THOUSANDS OF CLIENTS WITH ONE THREAD, so a function of a module must not
 *   - wait: no sleep, lock, file, socket, name look-up, child process; answer later instead, with
 *     async_register(), a timer, or a thread of the module's own that leaves its results in memory;
 *   - take long: microseconds. What takes longer than limits.module_slow (1 ms) is counted, and the
 *     module is named on stderr, once a minute at the most;
 *   - allocate without bound: whatever a client can make grow needs a limit;
 *   - call the gateway from another thread, or end the process (exit(), abort(), signals, fork());
 *   - keep a pointer that it was given beyond the call. Handles (sessions, timers, asynchronous
 *     requests) may be kept: those of what has gone are refused with -ENOENT, never misread.
 * Modules are part of the process and are trusted like it. They are loaded before privileges are
 * dropped: coapgw_module_init(), check() and start() may run with all of them, nothing later does.
 *
 * Functions return 0, or a negative errno. Times are milliseconds where a name ends in _ms and
 * microseconds where it ends in _us. Text ends with a zero where nothing else is said.
 *
 * Later versions of this header only add members at the ends of structures, whose `size` says how
 * much the gateway or the module knows of; COAPGW_MODULE_ABI changes when that is not enough, and a
 * module for another one is refused.
 *
 * RFC numbers below: 7252 CoAP, 7641 Observe, 7959 blocks, 8132 FETCH and PATCH. */
#ifndef COAPGW_MODULE_H
#define COAPGW_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COAPGW_MODULE_ABI 1u

/* Limits of an instance. */
#define COAPGW_SEGMENTS_MAX     64u /* path segments, and query options; a request with more: 4.00 */
#define COAPGW_TIMERS_MAX       256u      /* timers that are running */
#define COAPGW_LOG_BYTES        200u      /* a line of log(); the rest is cut off */
#define COAPGW_LOG_LINES        10u       /* a second; those beyond are counted and not printed */
#define COAPGW_REASON_BYTES     200u      /* why check() or start() failed, with the final zero */
#define COAPGW_ADDRESS_BYTES    64u       /* "[2001:db8::1]:5683", with the final zero */
#define COAPGW_OPTION_BYTES_MAX 512u      /* all options of a response together, encoded */
#define COAPGW_DELAY_MS_MAX     86400000u /* of timers and asynchronous requests: a day */

/* ---- names for numbers ---- */

/* COAPGW_CODE(2, 5) is 2.05 Content (RFC 7252 12.1.2). */
#define COAPGW_CODE(class, detail) ((uint8_t)((class) << 5 | (detail)))

enum coapgw_method { /* RFC 7252 12.1.1, RFC 8132 6 */
                     COAPGW_GET = 1,
                     COAPGW_POST,
                     COAPGW_PUT,
                     COAPGW_DELETE,
                     COAPGW_FETCH,
                     COAPGW_PATCH,
                     COAPGW_IPATCH,
};

enum coapgw_code {
    COAPGW_CREATED = 2 << 5 | 1,
    COAPGW_DELETED = 2 << 5 | 2,
    COAPGW_CHANGED = 2 << 5 | 4,
    COAPGW_CONTENT = 2 << 5 | 5,
    COAPGW_BAD_REQUEST = 4 << 5 | 0,
    COAPGW_FORBIDDEN = 4 << 5 | 3,
    COAPGW_NOT_FOUND = 4 << 5 | 4,
    COAPGW_METHOD_NOT_ALLOWED = 4 << 5 | 5,
    COAPGW_NOT_ACCEPTABLE = 4 << 5 | 6,
    COAPGW_CONFLICT = 4 << 5 | 9,
    COAPGW_PRECONDITION_FAILED = 4 << 5 | 12,
    COAPGW_TOO_LARGE = 4 << 5 | 13,
    COAPGW_UNSUPPORTED_FORMAT = 4 << 5 | 15,
    COAPGW_INTERNAL_ERROR = 5 << 5 | 0,
    COAPGW_NOT_IMPLEMENTED = 5 << 5 | 1,
    COAPGW_UNAVAILABLE = 5 << 5 | 3,
};

enum coapgw_option { /* RFC 7252 12.2 */
                     COAPGW_OPTION_IF_MATCH = 1,
                     COAPGW_OPTION_ETAG = 4,
                     COAPGW_OPTION_IF_NONE_MATCH = 5,
                     COAPGW_OPTION_LOCATION_PATH = 8,
                     COAPGW_OPTION_CONTENT_FORMAT = 12,
                     COAPGW_OPTION_MAX_AGE = 14,
                     COAPGW_OPTION_ACCEPT = 17,
                     COAPGW_OPTION_LOCATION_QUERY = 20,
};

enum coapgw_format { /* RFC 7252 12.3 */
                     COAPGW_FORMAT_TEXT = 0,
                     COAPGW_FORMAT_LINK = 40,
                     COAPGW_FORMAT_OCTETS = 42,
                     COAPGW_FORMAT_JSON = 50,
                     COAPGW_FORMAT_CBOR = 60,
};

/* ---- handles and bytes ---- */

struct coapgw_instance; /* given to start(), valid until stop() has returned */
struct coapgw_response; /* of one call of handle() */

typedef uint64_t coapgw_session; /* 0: none */
typedef uint64_t coapgw_async;   /* 0: none */
typedef uint64_t coapgw_timer;   /* 0: none */

struct coapgw_bytes {
    const uint8_t *data; /* may be NULL when length is 0 */
    size_t length;
};

/* ---- requests ---- */

enum coapgw_pass {
    COAPGW_PASS_REQUEST, /* a client has asked */
    COAPGW_PASS_ASYNC,   /* an asynchronous request is due: `async` says which */
    COAPGW_PASS_NOTIFY,  /* notify() has been called: the new state is wanted, for all clients who
                            observe by this same request. `session` is 0 */
};

/* Valid during the call of handle(). The body is whole, however many blocks it came in, and a
 * duplicate of a message never leads to a second call. */
struct coapgw_request {
    uint32_t size;
    uint8_t method; /* enum coapgw_method; one that is not known has been answered 4.05 */
    uint8_t pass;   /* enum coapgw_pass */
    bool observe;   /* a GET or FETCH that registers (RFC 7641 3.1); see observable() */
    bool resumed;   /* it registered before the gateway was restarted; nobody waits for an answer,
                       but the client gets the state as a notification */
    coapgw_session session;
    coapgw_async async; /* COAPGW_PASS_ASYNC; else 0 */
    struct coapgw_bytes token;
    const struct coapgw_bytes *path; /* Uri-Path options below the route's path */
    size_t path_count;
    const struct coapgw_bytes *query; /* Uri-Query options, "name=value" for instance */
    size_t query_count;
    struct coapgw_bytes payload;
};

/* ---- sessions ---- */

/* The transmission parameters of a session (RFC 7252 4.8). Their values are in thousandths: 2500 is
 * 2.5 seconds, 1500 a factor of 1.5, and 4000 four retransmissions; for the two whole numbers a
 * value that is none is refused. */
enum coapgw_parameter {
    COAPGW_ACK_TIMEOUT,       /* s: 0.001 to 3600 */
    COAPGW_ACK_RANDOM_FACTOR, /* 1 to 10 */
    COAPGW_MAX_RETRANSMIT,    /* whole: 0 to 20 */
    COAPGW_NSTART,            /* whole: 1 to 65535 */
    COAPGW_DEFAULT_LEISURE,   /* s: 0 to 3600 */
    COAPGW_PROBING_RATE,      /* bytes/s: 0.001 to 4,000,000 */
    COAPGW_PARAMETER_COUNT
};

/* ---- events ---- */

/* What happens in the instance's worker. A module gets those whose COAPGW_EVENT() bit is in
 * coapgw_module.events. Functions for requests and responses cannot be called here. */
enum coapgw_event_kind {
    COAPGW_SESSION_OPENED,   /* a client's first message */
    COAPGW_SESSION_CLOSED,   /* the handle is refused when this call has returned; asynchronous
                                requests   of its client have gone already */
    COAPGW_PING,             /* a client pinged us (RFC 7252 4.3) */
    COAPGW_PONG,             /* a ping of ours was answered */
    COAPGW_KEEPALIVE_FAILED, /* it was not, after all retransmissions: the session is closed next */
    COAPGW_NACK,             /* a confirmable message to the client failed: `reason`, `mid` */
    COAPGW_RELATION_ADDED, /* a client observes: `name` is the token, `data` its request as it came
                              where the gateway keeps it (store), else empty */
    COAPGW_RELATION_DELETED, /* it does not any more: `name` */
    COAPGW_COUNTER,          /* Observe numbers up to `number` may be in use (before they are cut to
                                24 bits): the next run has to begin beyond. Told ahead of use */
    COAPGW_RESOURCE_ADDED, /* a resource that the gateway holds was made or replaced: `name` is its
                              path as in a URI, `data` its payload, `format`, `number` its version
                            */
    COAPGW_RESOURCE_DELETED, /* `name` */
    COAPGW_EVENT_COUNT
};
#define COAPGW_EVENT(kind) (1u << (kind))

enum coapgw_nack {
    COAPGW_NACK_RESET,       /* RST */
    COAPGW_NACK_TIMEOUT,     /* no acknowledgement after all retransmissions */
    COAPGW_NACK_UNREACHABLE, /* an ICMP error */
    COAPGW_NACK_MALFORMED,   /* the acknowledgement had a format error */
};

struct coapgw_event {
    uint32_t size;
    uint32_t kind;          /* enum coapgw_event_kind */
    coapgw_session session; /* 0: it is about none */
    uint32_t reason;        /* enum coapgw_nack */
    uint16_t mid;
    int32_t format; /* Content-Format; -1: none */
    uint64_t number;
    struct coapgw_bytes name, data;
};

/* ---- what the gateway offers ---- */

/* Kept by the module as it is; constant and valid as long as the module is loaded. */
struct coapgw_api {
    uint32_t abi;  /* COAPGW_MODULE_ABI */
    uint32_t size; /* of this structure */

    /* Reading a request. The `nth` option with a number, from 0. -ENOENT: there are not so many. */
    int (*option)(const struct coapgw_request *request, uint16_t number, unsigned nth,
                  struct coapgw_bytes *value);
    /* The first one as a number (RFC 7252 3.2); -1: there is none, or it is longer than 4 bytes. */
    int64_t (*option_uint)(const struct coapgw_request *request, uint16_t number);

    /* Answering. Everything is copied at once. Without a code, or when one of these functions has
     * failed for want of room, the client gets 5.00.
     *
     * code(): class 2, 4 or 5. -EINVAL for others, and for 2.03 and 2.31: the gateway compares
     * ETags and sends blocks by itself. */
    int (*code)(struct coapgw_response *response, uint8_t code);
    /* In any order of numbers; those of one number in the order of the calls. Content-Format,
     * Max-Age (absent: 60 s, RFC 7252 5.10.5) and ETag (1 to 8 bytes) stand once: the last call
     * counts. -EINVAL for a number that is the gateway's own business (Observe, Block1, Block2,
     * Size1, Size2, Echo) and for a value out of its range. -ENOSPC beyond COAPGW_OPTION_BYTES_MAX.
     */
    int (*add_option)(struct coapgw_response *response, uint16_t number, const void *value,
                      size_t length);
    int (*add_uint)(struct coapgw_response *response, uint16_t number, uint32_t value);
    /* Adds to the payload. -EMSGSIZE beyond limits.body, which is 64 KiB by default. What is longer
     * than a block is sent in blocks (RFC 7959). With an error code it is the diagnostic payload.
     */
    int (*write)(struct coapgw_response *response, const void *data, size_t length);
    /* The resource can be observed: who asks for that is told of each notify(). Only 2.05 answers
     * to GET and FETCH in the first pass; in others it has no effect (RFC 7641 3.1: the client sees
     * that it does not observe). */
    void (*observable)(struct coapgw_response *response);

    /* The state of a path below the route has changed; NULL: all of them may have. handle() is
     * called again, soon and not from within this call, once for each different request by which
     * clients observe (path, query, Accept, a FETCH's body, other options), and the result goes to
     * all of them. Any code but 2.05 ends it: they get an error as the last word (RFC 7641 4.2).
     * Calls that come faster than clients can be told are joined: the last state
     * always arrives. -EINVAL for a path that is too long. */
    int (*notify)(struct coapgw_instance *instance, const struct coapgw_bytes *path, size_t count);

    /* Calls coapgw_module.timer() once, `delay_ms` (0 to COAPGW_DELAY_MS_MAX) from now, never
     * within this call; up to 2 ms late in an unloaded gateway. `*timer` may be NULL. -ENOSPC: too
     * many. */
    int (*timer_start)(struct coapgw_instance *instance, uint32_t delay_ms, uint64_t argument,
                       coapgw_timer *timer);
    /* -ENOENT: it has fired, or was cancelled. */
    int (*timer_cancel)(struct coapgw_instance *instance, coapgw_timer timer);

    /* Requests that are answered later (RFC 7252 5.2.2). To be called in the first pass, which then
     * sets no code: the client gets an Empty ACK in time, and handle() is called again with a copy
     * of the request (COAPGW_PASS_ASYNC) after `delay_ms`, or, where that is 0, when it is told to.
     * Its answer ends the matter. A registration (Observe) that is answered later does not observe.
     *
     * -EEXIST: this client's request with the same token is registered already. -ENOSPC: too many
     * are (limits.async). -ENOMEM: no room for the copy (limits.assembly_memory). -EINVAL: not in
     * the first pass, nobody waits for an answer (`resumed`), or the delay is beyond
     * COAPGW_DELAY_MS_MAX. */
    int (*async_register)(const struct coapgw_request *request, uint32_t delay_ms,
                          coapgw_async *async);
    /* From now on; 0: until told. In the second pass, instead of an answer, it waits once more. */
    int (*async_set_delay)(struct coapgw_instance *instance, coapgw_async async, uint32_t delay_ms);
    /* handle() is called within the next milliseconds, not within this call. */
    int (*async_trigger)(struct coapgw_instance *instance, coapgw_async async);
    /* By session and token; -ENOENT: there is none of this instance. */
    int (*async_find)(struct coapgw_instance *instance, coapgw_session session, const void *token,
                      size_t token_length, coapgw_async *async);
    /* Without a second pass: the client gets 5.03, a little later. `async` has gone at once. */
    int (*async_free)(struct coapgw_instance *instance, coapgw_async async);
    /* Data of the module's own. `destroy`, unless NULL, is called once with it: when it is
     * replaced, or the request ends, is freed, or its session is closed, or the gateway stops. It
     * may call nothing of the gateway's. */
    int (*async_attach)(struct coapgw_instance *instance, coapgw_async async, void *data,
                        void (*destroy)(void *data));
    void *(*async_data)(struct coapgw_instance *instance, coapgw_async async);

    /* Sessions of clients. The address, as "ADDRESS:PORT" or "[ADDRESS]:PORT". -ENOSPC: `room` is
     * too small; COAPGW_ADDRESS_BYTES always do. */
    int (*session_address)(struct coapgw_instance *instance, coapgw_session session, char *text,
                           size_t room);
    /* -ERANGE: not a value for this parameter. -ENOSPC: too many sessions have their own
     * (limits.parameter_sets). -EBUSY: within event(), while messages wait to be sent to the
     * client. What has been sent keeps to the old ones. */
    int (*session_get)(struct coapgw_instance *instance, coapgw_session session,
                       enum coapgw_parameter parameter, uint64_t *value_milli);
    int (*session_set)(struct coapgw_instance *instance, coapgw_session session,
                       enum coapgw_parameter parameter, uint64_t value_milli);
    /* A pointer of the module's own for each session; NULL at first. It is the module's to free, at
     * COAPGW_SESSION_CLOSED, which comes before stop() for all sessions that have one. */
    int (*session_set_data)(struct coapgw_instance *instance, coapgw_session session, void *data);
    void *(*session_data)(struct coapgw_instance *instance, coapgw_session session);

    /* Messages that this worker does not send, for tests: "20%", "0%", or ranges of the n-th ones,
     * "1,5-9". -EINVAL for other texts: nothing changes then. */
    int (*packet_loss)(struct coapgw_instance *instance, const char *text);

    /* A line on the gateway's stderr, with the route in front. It is printed by another thread a
     * little later. */
    void (*log)(struct coapgw_instance *instance, const char *text);

    /* The worker's time: the wall clock's at the gateway's start, in microseconds since 1970, and
     * steady from there on. It stands still during a call. */
    uint64_t (*now_us)(const struct coapgw_instance *instance);
};

/* ---- what a module offers ---- */

struct coapgw_start {
    uint32_t size;
    struct coapgw_instance *instance;
    const char *options;      /* of the configuration, at most 1024 bytes, or "" */
    const char *path;         /* of the route, "/time" */
    unsigned worker, workers; /* which of how many */
    char *reason; /* room for COAPGW_REASON_BYTES: why it fails, in words for the operator */
};

/* Constant as long as the module is loaded. Functions that are not marked may not be NULL. */
struct coapgw_module {
    uint32_t abi;  /* COAPGW_MODULE_ABI */
    uint32_t size; /* of this structure */
    const char *name;
    uint32_t events; /* COAPGW_EVENT() bits of what event() is called for */

    /* Looks at options before anything is started, also for coapgw --check. A negative errno, and
     * words in `reason` (COAPGW_REASON_BYTES), when they are wrong. Main thread. NULL: none. */
    int (*check)(const char *options, char *reason);

    /* Makes an instance; what is put into `*state` is given to all other functions. A negative
     * errno, and words in start->reason, keeps the gateway from starting. Main thread; timers may
     * be started, lines logged. */
    int (*start)(const struct coapgw_start *start, void **state);

    /* Frees it. Asynchronous requests and timers have gone. Main thread. */
    void (*stop)(void *state);

    /* A request. Worker's thread, as for those below. */
    void (*handle)(void *state, const struct coapgw_request *request,
                   struct coapgw_response *response);

    /* NULL: it starts none. */
    void (*timer)(void *state, coapgw_timer timer, uint64_t argument);

    /* NULL: `events` is 0. */
    void (*event)(void *state, const struct coapgw_event *event);
};

/* What a module exports, with this name and with COAPGW_EXPORT. It is called once for each route,
 * and may return the same each time. NULL: it cannot work with this gateway. Main thread. */
#define COAPGW_EXPORT __attribute__((visibility("default")))
COAPGW_EXPORT const struct coapgw_module *coapgw_module_init(const struct coapgw_api *api);

#ifdef __cplusplus
}
#endif

#endif
