/* Questions of the admin thread to workers, and their answers: parcels through two rings for each
 * worker. A worker takes and tells within its loop; the admin thread waits, up to a deadline.
 *
 *   admin thread --- mail_post() ---> ring ---> mail_take() --- worker
 *   admin thread <-- mail_await() --- ring <--- mail_tell() --- worker
 *
 * Rings are plain memory, made before the EAL. One thread asks. */
#ifndef COAPGW_GATEWAY_CONTROL_ADMIN_MAIL_H
#define COAPGW_GATEWAY_CONTROL_ADMIN_MAIL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "gateway/inspect.h"
#include "gateway/parcel.h"

struct rte_mempool;
struct rte_ring;

struct mail {
    unsigned workers;
    struct rte_ring *to[CONFIG_WORKERS_MAX], *from[CONFIG_WORKERS_MAX];
    struct rte_mempool *parcels; /* set before the first question */
    uint64_t serial;
    atomic_bool closing; /* nobody waits any more */
};

/* 0 or -ENOMEM. */
int mail_init(struct mail *m, unsigned workers);
void mail_fini(struct mail *m);

/* Microseconds from any fixed time. */
uint64_t mail_now_us(void);

/* Sends a question, with `bytes` more behind it. Its serial, which is set in `q` too; 0 when it
 * cannot be sent now: no parcel is free, or the worker has not taken what it was asked before. */
uint64_t mail_post(struct mail *m, unsigned worker, enum inspect_type type,
                   struct inspect_question *q, const void *more, size_t bytes);

/* The answer, which is the caller's to free with mail_free(). NULL when it has not come at the
 * deadline. Older answers of that worker are thrown away. */
struct parcel *mail_await(struct mail *m, unsigned worker, uint64_t serial, uint64_t deadline_us);

/* Both; tries again to send what cannot be sent now. `q` is changed. 0; -ETIMEDOUT; the error that
 * the answer tells. With 0, `head` and `answer` are set. */
int mail_ask(struct mail *m, unsigned worker, enum inspect_type type, struct inspect_question *q,
             const void *more, size_t bytes, uint64_t deadline_us, struct inspect_head *head,
             struct parcel **answer);

void mail_free(struct mail *m, struct parcel *parcel);

/* The worker's side; `context` is a struct mail. */
bool mail_tell(void *context, unsigned worker, struct parcel *parcel);
struct parcel *mail_take(void *context, unsigned worker);

#endif
