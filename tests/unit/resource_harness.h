/* Clients of held resources, around one worker or several. Beside tests/unit/proxy_harness.h. */
#ifndef COAPGW_TESTS_UNIT_RESOURCE_HARNESS_H
#define COAPGW_TESTS_UNIT_RESOURCE_HARNESS_H

#include "gateway/proxy/content.h"
#include "tests/unit/proxy_harness.h"

#define RESOURCE_YAML_HEAD            \
    "instance: unit\n"                \
    "interfaces:\n"                   \
    "  - name: south\n"               \
    "    device: tap:unit0\n"         \
    "    addresses: [10.99.0.2/24]\n" \
    "listeners:\n"                    \
    "  - uri: coap://10.99.0.2\n"

#define RESOURCE_YAML              \
    RESOURCE_YAML_HEAD             \
    "limits: {amplification: 0}\n" \
    "routes:\n"                    \
    "  - path: /shared\n"          \
    "    resources: {create: true}\n"

#define FORMAT_TEXT 0
#define FORMAT_JSON 50

static inline void client_puts(struct harness *h, unsigned n, const char *path, int format,
                               const char *payload)
{
    const struct addition option = addition_uint(OPTION_CONTENT_FORMAT, (uint32_t)format);

    CLIENT(h, n, .type = TYPE_CON, .code = CODE_PUT, .path = path, .options = &option,
           .option_count = format >= 0, .payload = payload,
           .payload_length = payload ? strlen(payload) : 0);
}

static inline void client_gets(struct harness *h, unsigned n, const char *path)
{
    CLIENT(h, n, .type = TYPE_CON, .code = CODE_GET, .path = path);
}

static inline void client_deletes(struct harness *h, unsigned n, const char *path)
{
    CLIENT(h, n, .type = TYPE_CON, .code = CODE_DELETE, .path = path);
}

static inline void client_watches(struct harness *h, unsigned n, const char *path)
{
    CLIENT(h, n, .type = TYPE_CON, .code = CODE_GET, .path = path,
           OPTIONS_OF(addition_uint(OPTION_OBSERVE, 0)));
}

/* Puts and expects the code. */
static inline struct etag puts_ok(struct harness *h, unsigned n, const char *path, int format,
                                  const char *payload, uint8_t code)
{
    struct etag etag = {0};
    struct message m;

    client_puts(h, n, path, format, payload);
    expect_at_client(h, n, code, &m);
    assert_int_equal(m.type, TYPE_ACK);
    if (code_class(code) == 2) {
        assert_true(message_has(&m, SLOT_ETAG));
        etag.length = (uint8_t)m.first[SLOT_ETAG].length;
        assert_int_equal(etag.length, 8);
        memcpy(etag.bytes, m.first[SLOT_ETAG].value, etag.length);
    }
    harness_silent(h);
    return etag;
}

/* Gets and expects the representation. */
static inline void gets_ok(struct harness *h, unsigned n, const char *path, const char *payload)
{
    struct message m;

    client_gets(h, n, path);
    expect_at_client(h, n, CODE_CONTENT, &m);
    assert_payload(&m, payload, strlen(payload));
    harness_silent(h);
}

static inline void gets_code(struct harness *h, unsigned n, const char *path, uint8_t code)
{
    struct message m;

    client_gets(h, n, path);
    expect_at_client(h, n, code, &m);
    harness_silent(h);
}

static inline void resource_start(void **state, const char *yaml)
{
    struct harness *h = malloc(sizeof(*h));

    harness_start(h, yaml);
    *state = h;
}

/* Clients are silent from now on: what they wait for and observe ends within a day, and nothing but
 * the resources is left. */
static inline void resource_end(struct harness *h)
{
    for (unsigned i = 0; i < 1000; i++) {
        harness_advance(h, 100 * SECOND_US);
        h->count = h->taken = 0;
    }
    nothing_is_kept(h);
    harness_stop(h);
    free(h);
}

#endif
