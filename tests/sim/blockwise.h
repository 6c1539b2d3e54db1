/* Bodies that are sent and fetched in blocks, whole and not, by many at a time (RFC 7959,
 * RFC 9175 3).
 *
 *   blockwise.c         the world
 *   blockwise_server.c  its server
 *   blockwise_device.c  devices
 *   blockwise_upload.c, blockwise_download.c  what they do */
#ifndef COAPGW_TESTS_SIM_BLOCKWISE_H
#define COAPGW_TESTS_SIM_BLOCKWISE_H

#include "tests/sim/fleet.h"

#define BODY_LIMIT 4096 /* limits.body */
#define BODY_MOST  6000 /* some are too long */
#define IDS_MAX    8192
#define FILES_MAX  8
#define IDLE_S     100 /* limits.transfer_idle */

/* What is fetched. */
struct file {
    uint32_t id, version;
    size_t max_length;
    bool etag; /* or it does not change */
};

enum mischief {
    NONE,
    ABANDON, /* goes away in the middle */
    GAP,     /* leaves a block out */
    REPEAT,  /* sends a block twice, as two requests */
    RESTART, /* begins again in the middle */
    LATE,    /* waits for too long in the middle */
};

/* Something that a device does. */
struct task {
    struct doer *doer;
    struct caller caller;
    unsigned index;
    bool upload;
    enum mischief mischief;
    bool did;          /* what its mischief is */
    uint32_t id;       /* of an upload */
    struct file *file; /* of a download */
    uint8_t body[BODY_MOST + 1024];
    size_t length, at;
    uint8_t szx;
    uint8_t method, type;
    bool negotiate;
    struct etag etag;
    uint8_t tag[8], tag_length;
    bool fetching_answer; /* of an upload, in blocks */
};

#define TASKS 2 /* of a device at a time */

struct doer {
    struct device device;
    struct task tasks[TASKS];
    unsigned left;
    uint32_t pause_us;
};

struct block_server;

struct block_world {
    struct fleet fleet; /* the first member */
    bool tight;         /* little memory: 5.03 may come */
    bool long_answers;  /* of POST */
    uint8_t near_szx, far_szx;
    struct node server;
    struct block_server *serving;
    struct file files[FILES_MAX];
    unsigned file_count;
    struct doer *doers;
    unsigned doer_count;
    uint32_t next_id;
    uint8_t executed[IDS_MAX];
    bool incomplete[IDS_MAX]; /* its device has left something out */
};

static inline struct block_world *block_world_of(struct stage *s)
{
    return (struct block_world *)s;
}

/* The body of an upload and of its answer, and of a file as it is. */
size_t upload_length(const struct block_world *w, uint32_t id);
size_t answer_length(const struct block_world *w, uint32_t id, uint8_t method);
size_t file_length(const struct block_world *w, const struct file *f, uint32_t version);
#define ANSWER_VERSION 77 /* in bodies of answers */

/* ---- blockwise_server.c ---- */

struct block_server *block_server_create(struct block_world *w);
void block_server_destroy(struct block_server *b);

/* ---- blockwise_device.c ---- */

void doer_init(struct block_world *w, unsigned index);
/* The task is over; another one follows. */
void task_end(struct task *t);
/* Asks with t->caller.request and a new token. */
void task_ask(struct task *t);
/* A code that is not the one wanted: whether the network or lack of memory explains it. */
bool task_may_fail(const struct task *t, const struct message *m);

/* ---- blockwise_upload.c ---- */

void upload_begin(struct task *t);
void upload_answered(struct task *t, const struct message *m);

/* ---- blockwise_download.c ---- */

void download_begin(struct task *t);
void download_answered(struct task *t, const struct message *m);

#endif
