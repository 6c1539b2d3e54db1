#include "dpdk/steer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_random.h>
#include <rte_thash.h>

/* A tuple as it stands in a packet: addresses, source port, destination port.
 */
#define TUPLE4_BYTES     12
#define TUPLE6_BYTES     36
#define TUPLE4_DPORT_BIT 80
#define TUPLE6_DPORT_BIT 272
#define PORT_BITS        16

struct steer {
    unsigned workers;
    uint16_t port_base;
    uint8_t port_shift;
    uint8_t reta_bits;
    uint16_t reta_size;
    uint8_t reta[STEER_RETA_MAX];
    uint8_t key[STEER_KEY_BYTES] __attribute__((aligned(8)));
    uint32_t key_words[STEER_KEY_BYTES / sizeof(uint32_t)]; /* in host order, for
                                                               rte_softrss_be() */
    struct rte_thash_ctx *context;
    struct rte_thash_subtuple_helper *helper4, *helper6;
};

/* ---- start ---- */

int steer_seed(const uint8_t secret[STEER_SECRET_BYTES], uint8_t seed[STEER_KEY_BYTES])
{
    static const char label[] = "coapgw steering 1"; /* its zero counts */
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;

    if (!HMAC(EVP_sha512(), secret, STEER_SECRET_BYTES, (const uint8_t *)label, sizeof(label),
              digest, &length) ||
        length < STEER_KEY_BYTES)
        return -EIO;
    memcpy(seed, digest, STEER_KEY_BYTES);
    OPENSSL_cleanse(digest, sizeof(digest));
    return 0;
}

/* DPDK mixes its own random numbers into the key where the helpers need it. They come from its
 * generator, which is set so that they follow from the seed, and to something random afterwards. */
static void set_generator(const uint8_t *seed)
{
    uint64_t word;

    if (seed)
        memcpy(&word, seed, sizeof(word));
    else if (getrandom(&word, sizeof(word), 0) != (ssize_t)sizeof(word))
        word = rte_rand();
    rte_srand(word);
}

/* The context changes the key so that a port can be found for a wanted hash:
 * the key is taken from it afterwards, and that one is what NICs get. */
static int make_key(struct steer *s, const uint8_t *seed)
{
    static unsigned serial;
    char name[RTE_MEMZONE_NAMESIZE / 2];
    uint8_t random[STEER_KEY_BYTES];

    memcpy(random, seed, sizeof(random));
    snprintf(name, sizeof(name), "steer-%u", serial++);
    s->context = rte_thash_init_ctx(name, STEER_KEY_BYTES, s->reta_bits, random, 0);
    if (!s->context)
        return -ENOMEM;
    if (rte_thash_add_helper(s->context, "dport4", PORT_BITS, TUPLE4_DPORT_BIT) != 0 ||
        rte_thash_add_helper(s->context, "dport6", PORT_BITS, TUPLE6_DPORT_BIT) != 0)
        return -ENOSPC;
    s->helper4 = rte_thash_get_helper(s->context, "dport4");
    s->helper6 = rte_thash_get_helper(s->context, "dport6");
    memcpy(s->key, rte_thash_get_key(s->context), sizeof(s->key));
    rte_convert_rss_key((const uint32_t *)(const void *)s->key, s->key_words, sizeof(s->key));
    return 0;
}

struct steer *steer_create(const struct steer_setup *setup)
{
    uint32_t end = setup->port_base + ((uint32_t)setup->workers << setup->port_shift);
    struct steer *s;
    int err;

    if (setup->workers == 0 || setup->workers > UINT8_MAX || end > UINT16_MAX + 1u ||
        setup->reta_size < 64 || setup->reta_size > STEER_RETA_MAX ||
        (setup->reta_size & (setup->reta_size - 1))) {
        errno = EINVAL;
        return NULL;
    }
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->workers = setup->workers;
    s->port_base = setup->port_base;
    s->port_shift = setup->port_shift;
    s->reta_size = setup->reta_size;
    s->reta_bits = (uint8_t)__builtin_ctz(setup->reta_size);
    for (unsigned i = 0; i < s->reta_size; i++)
        s->reta[i] = (uint8_t)(i % s->workers);
    set_generator(setup->seed);
    err = make_key(s, setup->seed);
    set_generator(NULL);
    if (err) {
        steer_destroy(s);
        errno = -err;
        return NULL;
    }
    return s;
}

void steer_destroy(struct steer *s)
{
    if (!s)
        return;
    rte_thash_free_ctx(s->context);
    free(s);
}

/* ---- hashing ---- */

/* The bytes that a NIC hashes, in network order. Returns how many. */
static unsigned tuple_bytes(const struct steer_tuple *t, uint8_t out[TUPLE6_BYTES])
{
    unsigned n;

    if (address_is_v4(&t->source)) {
        memcpy(out, t->source.bytes + 12, 4);
        memcpy(out + 4, t->destination.bytes + 12, 4);
        n = 8;
    } else {
        memcpy(out, t->source.bytes, 16);
        memcpy(out + 16, t->destination.bytes, 16);
        n = 32;
    }
    out[n] = (uint8_t)(t->source_port >> 8);
    out[n + 1] = (uint8_t)t->source_port;
    out[n + 2] = (uint8_t)(t->destination_port >> 8);
    out[n + 3] = (uint8_t)t->destination_port;
    return n + 4;
}

uint32_t steer_hash(const struct steer *s, const struct steer_tuple *t)
{
    uint8_t bytes[TUPLE6_BYTES];
    uint32_t words[TUPLE6_BYTES / 4];
    unsigned n = tuple_bytes(t, bytes) / 4;

    memcpy(words, bytes, n * 4);
    for (unsigned i = 0; i < n; i++)
        words[i] = rte_be_to_cpu_32(words[i]);
    return rte_softrss_be(words, n, (const uint8_t *)s->key_words);
}

const uint8_t *steer_key(const struct steer *s)
{
    return s->key;
}

uint16_t steer_reta_size(const struct steer *s)
{
    return s->reta_size;
}

unsigned steer_reta(const struct steer *s, uint16_t index)
{
    return s->reta[index & (s->reta_size - 1)];
}

/* ---- owners ---- */

bool steer_port_owner(const struct steer *s, uint16_t port, unsigned *worker)
{
    unsigned block;

    if (port < s->port_base)
        return false;
    block = (unsigned)(port - s->port_base) >> s->port_shift;
    if (block >= s->workers)
        return false;
    *worker = block;
    return true;
}

unsigned steer_worker_of_hash(const struct steer *s, uint16_t destination_port, uint32_t hash)
{
    unsigned worker;

    if (steer_port_owner(s, destination_port, &worker))
        return worker;
    return s->reta[hash & (s->reta_size - 1u)];
}

unsigned steer_worker_of(const struct steer *s, const struct steer_tuple *t)
{
    unsigned worker;

    if (s->workers == 1)
        return 0;
    if (steer_port_owner(s, t->destination_port, &worker))
        return worker;
    return s->reta[steer_hash(s, t) & (s->reta_size - 1u)];
}

/* ---- upstream ports ---- */

/* The n-th RETA entry that belongs (or does not belong) to a worker: entries go
 * round the workers. */
static unsigned entry_of(const struct steer *s, unsigned worker, bool own, unsigned n)
{
    for (unsigned i = 0; i < s->reta_size; i++)
        if ((s->reta[i] == worker) == own && n-- == 0)
            return i;
    return 0;
}

static unsigned count_own(const struct steer *s, unsigned worker)
{
    return s->reta_size / s->workers + (worker < s->reta_size % s->workers);
}

/* Changes the low bits of a port so that the reply hashes to a RETA entry. Each
 * entry has exactly one such port in each aligned run of reta_size ports. */
static uint16_t port_for_entry(struct steer *s, const struct address *local,
                               const struct endpoint *server, uint16_t run, unsigned entry)
{
    struct steer_tuple reply = {.source = server->address,
                                .destination = *local,
                                .source_port = server->port,
                                .destination_port = run};
    uint8_t bytes[TUPLE6_BYTES];
    unsigned n = tuple_bytes(&reply, bytes);

    if (rte_thash_adjust_tuple(s->context, n == TUPLE4_BYTES ? s->helper4 : s->helper6, bytes, n,
                               entry, 1, NULL, NULL) != 0)
        return 0;
    return (uint16_t)(bytes[n - 2] << 8 | bytes[n - 1]);
}

uint16_t steer_upstream_port(struct steer *s, unsigned worker, const struct address *local,
                             const struct endpoint *server, unsigned n)
{
    unsigned block = 1u << s->port_shift, runs = block / s->reta_size;
    uint16_t first = (uint16_t)(s->port_base + (worker << s->port_shift));
    unsigned own = count_own(s, worker), entries = own;
    bool is_own = n < runs * own;

    if (n >= block)
        return 0;
    if (s->workers == 1 || runs == 0)
        return (uint16_t)(first + n);
    if (!is_own) {
        n -= runs * own;
        entries = s->reta_size - own;
    }
    return port_for_entry(s, local, server, (uint16_t)(first + n / entries * s->reta_size),
                          entry_of(s, worker, is_own, n % entries));
}
