#include "bench/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDENTITY  "device"
#define TURN_NS   20000 /* of virtual time */
#define TURNS_MAX 1000
#define KEY_HEX   "000102030405060708090a0b0c0d0e0f"

static const uint8_t key[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Datagrams of the handshake that is under way. */
struct mail {
    unsigned count;
    struct {
        uint16_t length;
        uint8_t data[DEVICES_DATAGRAM];
    } all[DEVICES_QUEUE];
};

static struct mail up, down;

/* ---- records ---- */

unsigned devices_lead(const struct devices *d)
{
    return record_lead(d->suite, 0);
}

size_t devices_seal(struct devices *d, unsigned n, uint8_t *packet, size_t length)
{
    struct device *device = &d->all[n];
    struct record_mark mark = {
        .type = RECORD_APPLICATION_DATA, .epoch = 1, .sequence = device->sequence++};
    int size = record_seal(d->aead, AEAD_NO_SLOT, &device->write, &mark, packet, length);

    return size < 0 ? 0 : (size_t)size;
}

int devices_open(struct devices *d, unsigned n, const uint8_t *data, size_t length, uint8_t *out)
{
    struct record_view view;
    uint8_t type = 0;
    int size = -EBADMSG;

    if (record_next(data, length, 0, &view) == (int)length && view.epoch == 1)
        size = record_open(d->aead, AEAD_NO_SLOT, &d->all[n].read, &view, out, &type);
    return type == RECORD_APPLICATION_DATA ? size : -EBADMSG;
}

/* ---- handshakes ---- */

struct flow devices_flow(unsigned n)
{
    struct flow flow = harness_client(n);

    flow.local_port = DEVICES_PORT;
    return flow;
}

struct peer_setup devices_setup(const struct devices *d)
{
    return (struct peer_setup){.crypto = d->crypto,
                               .identity = (const uint8_t *)IDENTITY,
                               .identity_length = sizeof(IDENTITY) - 1,
                               .key = key,
                               .key_length = sizeof(key),
                               .suites = {d->number}};
}

static void take_key(enum suite suite, const struct peer_keys *from, struct record_key *out)
{
    out->suite = (uint8_t)suite;
    memcpy(out->key, from->key, suite_key_bytes(suite));
    memcpy(out->salt, from->iv, suite_salt_bytes(suite));
}

void devices_take(struct devices *d, unsigned n, const struct peer *peer)
{
    struct peer_export end;

    peer_export(peer, &end);
    take_key(d->suite, &end.write, &d->all[n].write);
    take_key(d->suite, &end.read, &d->all[n].read);
    d->all[n].sequence = end.write_sequence[1];
}

static void mail_put(struct mail *mail, const uint8_t *data, size_t length)
{
    if (mail->count == DEVICES_QUEUE || length > DEVICES_DATAGRAM)
        return; /* lost */
    memcpy(mail->all[mail->count].data, data, length);
    mail->all[mail->count++].length = (uint16_t)length;
}

void devices_sink(const uint8_t *data, uint16_t length)
{
    mail_put(&down, data, length);
}

static void on_send(void *context, const uint8_t *datagram, size_t length)
{
    (void)context;
    mail_put(&up, datagram, length);
}

static void on_deliver(void *context, const uint8_t *data, size_t length)
{
    (void)context; /* nothing has been asked */
    (void)data;
    (void)length;
}

static const struct peer_events events = {.send = on_send, .deliver = on_deliver};

static int connect_one(struct devices *d, struct worker *w, unsigned n, uint64_t *now_ns)
{
    struct peer_setup setup = devices_setup(d);
    struct flow flow = devices_flow(n);
    struct peer peer;
    int err;

    up.count = down.count = 0;
    setup.events = &events;
    err = peer_init(&peer, &setup);
    if (!err)
        err = peer_start(&peer, *now_ns / 1000);
    for (unsigned i = 0; !err && i < TURNS_MAX && peer_state(&peer) == PEER_CONNECTING; i++) {
        *now_ns += TURN_NS;
        for (unsigned k = 0; k < up.count; k++)
            harness_give(w, &flow, up.all[k].data, up.all[k].length, *now_ns / 1000);
        up.count = 0;
        worker_advance(w, *now_ns / 1000);
        for (unsigned k = 0; k < down.count; k++)
            peer_receive(&peer, down.all[k].data, down.all[k].length, *now_ns / 1000);
        down.count = 0;
    }
    if (!err && peer_state(&peer) != PEER_ESTABLISHED)
        err = peer_error(&peer) ? peer_error(&peer) : -ETIMEDOUT;
    if (!err)
        devices_take(d, n, &peer);
    peer_free(&peer);
    return err;
}

int devices_connect(struct devices *d, struct worker *w, uint64_t *now_ns)
{
    for (unsigned n = 0; n < d->count; n++) {
        int err = connect_one(d, w, n, now_ns);

        if (err) {
            fprintf(stderr, "the handshake of device %u failed: %s\n", n, strerror(-err));
            counters_print(worker_counters(w), "worker:", stderr);
            return err;
        }
    }
    return 0;
}

/* ---- life ---- */

static int write_file(struct devices *d)
{
    static const char line[] = IDENTITY ":" KEY_HEX "\n";
    int fd, err = 0;

    snprintf(d->file, sizeof(d->file), "/tmp/coapgw-bench-XXXXXX");
    fd = mkstemp(d->file);
    if (fd < 0) {
        err = -errno;
        d->file[0] = 0;
        return err;
    }
    if (write(fd, line, sizeof(line) - 1) != sizeof(line) - 1)
        err = -EIO;
    close(fd);
    return err;
}

int devices_begin(struct devices *d, uint16_t number, unsigned count)
{
    int err = 0;

    *d = (struct devices){.number = number, .count = count};
    d->all = calloc(count, sizeof(*d->all));
    d->aead = aead_create(0);
    d->crypto = peer_crypto_create();
    if (!d->all || !d->aead || !d->crypto)
        err = -ENOMEM;
    if (!err && !suite_of(number, &d->suite))
        err = -EINVAL;
    if (!err)
        err = write_file(d);
    if (err) {
        fprintf(stderr, "devices with DTLS: %s\n", strerror(-err));
        devices_end(d);
    }
    return err;
}

void devices_end(struct devices *d)
{
    if (d->file[0])
        unlink(d->file);
    peer_crypto_destroy(d->crypto);
    aead_destroy(d->aead);
    free(d->all);
    *d = (struct devices){0};
}
