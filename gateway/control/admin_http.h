/* HTTP between libmicrohttpd and the resources of the administration: one request in hand, and its
 * reply. All of it belongs to the admin thread. */
#ifndef COAPGW_GATEWAY_CONTROL_ADMIN_HTTP_H
#define COAPGW_GATEWAY_CONTROL_ADMIN_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <microhttpd.h>

#include "gateway/control/admin.h"
#include "gateway/control/admin_mail.h"

/* The longest body that is taken, and how much of a longer one is read so that its sender hears why
 * it was refused. */
#define ADMIN_BODY_BYTES  4096
#define ADMIN_DRAIN_BYTES 65536

/* How long a request may wait for workers. */
#define ADMIN_PATIENCE_US 1000000

/* A worker's loop that has been in one turn for so long stands still. */
#define ADMIN_STILL_US 2000000

struct admin {
    const struct config *config;
    struct admin_setup setup;
    struct mail mail;
    struct MHD_Daemon *daemon;
    int listener; /* the socket, until the daemon has it; -1 */
    bool loopback;
    uint64_t started_s; /* wall clock */
};

/* A request, and its reply as far as it is known. */
struct ask {
    struct admin *admin;
    struct MHD_Connection *connection;
    const char *method, *path;
    uint64_t deadline_us;
    size_t body_length; /* of what came; more than ADMIN_BODY_BYTES: it was not kept */
    unsigned status;    /* 0: there is no reply yet */
    const char *type, *allow;
    char *reply; /* malloc()ed */
    size_t reply_length;
    char body[ADMIN_BODY_BYTES + 1]; /* with a zero at its end */
};

/* Replies. `text` and `value` are taken over; NULL stands for want of memory. */
void ask_reply(struct ask *ask, unsigned status, const char *type, char *text, size_t length);
void ask_reply_json(struct ask *ask, unsigned status, json_t *value);

/* JSON takes UTF-8 only: all that is not printable ASCII becomes a '?'. Returns `text`. */
char *ask_plain(char *text);

/* {"error": "..."} */
void ask_fail(struct ask *ask, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A worker did not answer (504), or said this error. */
void ask_fail_worker(struct ask *ask, unsigned worker, int error);

/* A query parameter, NULL when it is absent. */
const char *ask_parameter(const struct ask *ask, const char *name);

/* True when all query parameters are among `names`, which ends with NULL; replies otherwise. */
bool ask_knows(struct ask *ask, const char *const *names);

/* A decimal number from `least` to `most`, with nothing around it. */
bool ask_number(const char *text, uint64_t least, uint64_t most, uint64_t *number);

/* For MHD_start_daemon(); their context is the struct admin. */
enum MHD_Result admin_handle(void *context, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_bytes, void **state);
void admin_completed(void *context, struct MHD_Connection *connection, void **state,
                     enum MHD_RequestTerminationCode why);

/* True when a Host header names this machine by address or as localhost, so that no other web
 * site's name can lead a browser here (DNS rebinding). */
bool admin_host_is_local(const char *host);

/* ---- resources ---- */

void admin_get_metrics(struct ask *ask);   /* admin_metrics.c */
void admin_get_health(struct ask *ask);    /* admin_status.c */
void admin_get_ready(struct ask *ask);     /* admin_status.c */
void admin_get_store(struct ask *ask);     /* admin_status.c */
void admin_get_upstreams(struct ask *ask); /* admin_upstreams.c */
void admin_get_sessions(struct ask *ask);  /* admin_sessions.c */
void admin_get_session(struct ask *ask);   /* admin_sessions.c */
void admin_get_relations(struct ask *ask); /* admin_sessions.c */
void admin_patch_session(struct ask *ask); /* admin_change.c */
void admin_get_loss(struct ask *ask);      /* admin_change.c */
void admin_put_loss(struct ask *ask);      /* admin_change.c */

/* admin_status.c: why the gateway is not all it should be, as an array of texts; empty: it is.
 * `*failing`: a worker stands still. */
json_t *admin_reasons(const struct admin *admin, bool *failing);

/* admin_sessions.c: a session's name as text, and back. */
#define SESSION_ID_BYTES 40
void session_id_format(unsigned worker, const struct inspect_name *name,
                       char text[SESSION_ID_BYTES]);
bool session_id_parse(const struct ask *ask, const char *text, unsigned *worker, uint32_t *index,
                      uint32_t *check);
json_t *session_json(const struct admin *admin, unsigned worker, const struct inspect_session *s);

#endif
