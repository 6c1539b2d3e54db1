#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gun/carrier.h"
#include "bench/gun/mix.h"
#include "bench/gun/options_parts.h"

#define DEVICE_ENDPOINTS 60000 /* of one address, on a device */

static _Noreturn void refuse(const char *why)
{
    fprintf(stderr, "coapgun: %s; try coapgun --help\n", why);
    exit(2);
}

/* The sources' addresses when none is given: on loopback all of a subnet, which is local without
 * being set up; on a device one of the range that the examples use. */
static void choose_source(struct gun_options *o)
{
    bool v4 = address_is_v4(&o->target.address);

    if (o->source_given) {
        if (address_is_v4(&o->source) != v4)
            refuse("--source and --target are of different families");
    } else if (o->device) {
        address_parse(v4 ? "10.99.1.1" : "fd99::1:0:1", &o->source);
    } else if (v4 && o->target.address.bytes[12] == 127) {
        address_parse("127.1.0.1", &o->source);
        o->source_bits = 8;
    }
}

static bool lies_in(const struct address *a, const struct address *first, uint32_t count)
{
    return carrier_distance(first, a) < count;
}

/* On a device, the last one's address is in the subnet that the sources were given with, and no
 * other party's. */
static void check_sources(const struct gun_options *o)
{
    uint32_t count = (o->endpoints - 1) / DEVICE_ENDPOINTS + 1;
    struct address last = carrier_address(&o->source, count - 1);

    if (!o->device)
        return;
    if (carrier_low(&last) < carrier_low(&o->source) ||
        (o->source_bits && !address_in_subnet(&last, &o->source, o->source_bits)) ||
        lies_in(&o->target.address, &o->source, count) ||
        (o->origin_given && lies_in(&o->origin.address, &o->source, count)))
        refuse("--source: the addresses of all endpoints leave the subnet, or reach the target or "
               "the origin; choose another address");
}

static void check_origin(const struct gun_options *o)
{
    if (!o->origin_given) {
        if (o->notify_rate > 0)
            refuse("--notify-rate is the origin's: give --origin, too");
        return;
    }
    if (address_is_v4(&o->origin.address) != address_is_v4(&o->target.address))
        refuse("--origin and --target are of different families");
    if (address_equal(&o->origin.address, &o->target.address) && o->origin.port == o->target.port)
        refuse("--origin is the target itself");
}

static void check_requests(const struct gun_options *o)
{
    bool body = !o->mix_given && o->paths_file;

    body |= o->mix[GUN_POST] || o->mix[GUN_PUT];
    if (o->payload_bytes && !body)
        refuse("--payload: neither POST nor PUT is in the mix: say --mix post=100, for instance");
    if (o->raw &&
        (o->observers || o->mix[GUN_OBSERVE] || o->mix[GUN_BLOCK] || o->payload_bytes > 1024))
        refuse("--raw: a reflector neither observes nor transfers block-wise");
    if (o->mode == GUN_CLOSED && o->window == 0 && !o->observers)
        refuse("--window 0: then nothing is left to do without --observe");
}

static void check_secure(struct gun_options *o)
{
    if (o->secure_given && !o->identity)
        refuse("--suite, --cid, --handshakes and --handshake-rate are for DTLS: give --psk, too");
    if (o->identity && o->raw)
        refuse("--raw: a reflector does not speak DTLS");
    if (o->duration_s < 0.01 && (!o->identity || o->mode == GUN_RAMP || o->duration_s > 0))
        refuse("--duration: 0.01 s at least, or 0 for handshakes alone, with --psk");
    if (o->handshakes > o->endpoints)
        o->handshakes = o->endpoints;
}

void options_finish(struct gun_options *o)
{
    if (!o->device == !o->kernel || !o->target_text)
        refuse("--target and either --device or --kernel are needed");
    options_endpoint("--target", o->target_text, o->identity ? "coaps://" : "coap://", &o->target);
    check_secure(o);
    if (o->kernel && !address_is_unspecified(&o->via))
        refuse("--via is for devices: the kernel has its own routes");
    if (!o->timeout_ms)
        o->timeout_ms = o->retransmit ? 93000 : 1000; /* MAX_TRANSMIT_WAIT, RFC 7252 4.8.2 */
    if (o->device && !carrier_dpdk_knows(o->device))
        options_bad("--device", o->device,
                    "memif:SOCKET, tap:NAME, af_packet:IF, af_xdp:IF or vdev:ARGS");
    if (o->device && o->core < 0)
        o->core = 0;
    choose_source(o);
    check_sources(o);
    check_origin(o);
    check_requests(o);
    if (o->paths_file && mix_read_paths(o, o->paths_file) != 0)
        exit(2);
    if (!o->path_count && mix_add_path(o, "/hello", 1, -1) != 0)
        refuse("memory is short");
    if (!o->mix_given && o->block_szx >= 0 && !o->paths_file) {
        o->mix[GUN_BLOCK] = 1;
        o->mix_given = true;
    }
}
