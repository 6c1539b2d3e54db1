/* Established DTLS associations of one worker: what is left of a handshake. Keys, sequence numbers,
 * the window against replays, who the peer is; and the tables that find an association by the
 * addresses that its records come from, or by its id.
 *
 * An association is below half a KiB, its places in the tables included; with its session and that
 * one's place a client over DTLS takes less than 1 KiB. EVP contexts are not its own but the
 * worker's (aead.h).
 *
 * Where a client takes part in RFC 9146 its id is our Connection ID towards it, and its records are
 * found by that alone. Several associations may have the same wire flow then: behind a NAT one
 * client gets the port that another one had.
 *
 * One worker owns all of it; no locking. */
#ifndef COAPGW_GATEWAY_SECURITY_ASSOCIATION_H
#define COAPGW_GATEWAY_SECURITY_ASSOCIATION_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/list.h"
#include "gateway/net.h"
#include "gateway/pool.h"
#include "gateway/security/places.h"
#include "gateway/security/principal.h"
#include "gateway/security/record.h"
#include "gateway/timer/wheel.h"

/* The epoch of all records of an association: there is no renegotiation. */
#define ASSOCIATION_EPOCH 1

#define ASSOCIATION_ID_BYTES 8

enum association_role {
    ASSOCIATION_SERVER, /* a client's with a listener */
    ASSOCIATION_CLIENT, /* ours with an origin */
};

struct association {
    /* First line: what finds it, and what every record writes. */
    struct flow wire; /* the real addresses; transport UDP */
    uint8_t id[ASSOCIATION_ID_BYTES];
    uint64_t seen_us;  /* when a record of the peer's was last opened */
    uint64_t sequence; /* of the next record that we write */
    uint64_t limit;    /* sequences from here on must not be used (yet) */

    /* Second: the peer's records. */
    struct record_window window;
    uint64_t failures;   /* records that could not be opened */
    uint64_t opened_us;  /* when the handshake ended, this process's or an earlier one's */
    uint64_t confirmed;  /* as in struct keep_reserve; while it is not kept, it does not count */
    uint64_t reserved;   /* the same: what has been asked for */
    uint64_t stalled_us; /* since when nothing is sent, because it is not confirmed; 0: it is */

    struct timer idle;   /* looks at seen_us when it fires; not re-armed by records */
    uint32_t generation; /* with the index it names the keys, see association_slot() */
    uint32_t contact;    /* its handshake, while that is still there; POOL_NONE */
    struct links by_keep;
    uint16_t place;      /* index of the listener or upstream */
    uint8_t role;        /* enum association_role */
    uint8_t suite;       /* enum suite */
    uint8_t cid_length;  /* of the peer's CID, which our records carry; 0: none */
    bool open : 1;       /* false: it is not in use */
    bool own_cid : 1;    /* the peer's records carry our CID, which is the id */
    bool unproven : 1;   /* restored: its last records may come again, see security.h */
    bool kept : 1;       /* the store has been given a record of it */
    bool stale : 1;      /* and does not know, or may not know, all that there is to say */
    uint8_t keeping : 2; /* enum keeping: the list that it is in */
    bool resumed : 1;    /* by a ticket, without a full handshake */
    struct record_key read, write;
    uint8_t cid[RECORD_CID_MAX];
    struct principal principal;
};
_Static_assert(sizeof(struct association) <= 512, "a fleet has millions of them");

struct associations {
    struct pool pool;
    struct places by_wire, by_id;
    struct places_key key;
    uint32_t generation; /* of the latest one */
    uint32_t hand;       /* of the clock that looks for one to give up */
};

/* Room for `max`. 0 or -ENOMEM. `seed` is secret. */
int associations_init(struct associations *all, uint32_t max, uint64_t seed);
void associations_fini(struct associations *all);

/* A new one of this wire flow and id, both found by then; all else is zero but `open`, `generation`
 * and `contact`, which is POOL_NONE. NULL when all are in use. The id must be nobody else's. */
struct association *association_add(struct associations *all, const struct flow *wire,
                                    const uint8_t id[ASSOCIATION_ID_BYTES]);

/* Takes it out, keys wiped. Its timer must not be armed. */
void association_remove(struct associations *all, struct association *a);

/* Its records come from another address from now on. */
void association_move(struct associations *all, struct association *a, const struct flow *wire);

/* NULL: there is none. Hashes are those of places.h. By the wire flow: the next one behind `after`,
 * which is NULL at first. */
struct association *association_at_wire(const struct associations *all, const struct flow *wire,
                                        uint32_t hash, const struct association *after);
struct association *association_of_id(const struct associations *all,
                                      const uint8_t id[ASSOCIATION_ID_BYTES], uint32_t hash);

/* The one whose records from there carry no CID. */
struct association *association_of_wire(const struct associations *all, const struct flow *wire,
                                        uint32_t hash);

/* Begins to fetch what a look-up in one of the tables, whose slot is there by now, will read. */
void association_fetch(const struct associations *all, const struct places *places, uint32_t hash);

/* The longest idle one of the next ones under the clock's hand that `may_go` says yes to; NULL. */
struct association *association_victim(struct associations *all,
                                       bool (*may_go)(void *context, const struct association *a),
                                       void *context);

static inline uint32_t association_index(const struct associations *all,
                                         const struct association *a)
{
    return pool_index(&all->pool, a);
}

/* The name of one of its keys for the worker's cache of contexts (aead.h). */
static inline uint64_t association_slot(const struct associations *all, const struct association *a,
                                        bool write)
{
    return (uint64_t)a->generation << 32 | (uint64_t)association_index(all, a) << 1 | write;
}

/* The flow under which the rest of the worker knows it: of a client's the id stands for the
 * address, in the prefix that is nobody's (RFC 6666), so that neither a change of the address nor
 * a new association from the same address is taken for the same session. */
struct flow association_flow(const struct association *a);

/* The id in such a flow; NULL when it is not a client's. */
static inline const uint8_t *association_flow_id(const struct flow *flow)
{
    static const uint8_t prefix[8] = {1};

    return net_word(flow->peer.bytes) == net_word(prefix) ? flow->peer.bytes + 8 : NULL;
}

#endif
