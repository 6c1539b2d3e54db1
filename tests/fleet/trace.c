/* What devices send and receive, one line each, for who looks for the cause of a violation. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fleet/fleet.h"

static FILE *file;

void trace_open(const char *name)
{
    file = fopen(name, "w");
    if (!file) {
        fprintf(stderr, "coapgw-fleet: --trace: %s: %s\n", name, strerror(errno));
        exit(1);
    }
}

void trace(const struct device *d, const char *way, const uint8_t *data, size_t length)
{
    static const char types[4][4] = {"CON", "NON", "ACK", "RST"};
    struct message m;
    char who[32];

    if (!file || message_parse(data, length, &m) != VERDICT_OK)
        return;
    link_name(d, who);
    fprintf(file, "%.6f %s %s %s %u.%02u mid %u token ", (double)fleet.now / 1e6, who, way,
            types[m.type], code_class(m.code), code_detail(m.code), m.mid);
    for (unsigned i = 0; i < m.token_length; i++)
        fprintf(file, "%02x", m.token[i]);
    if (message_has(&m, SLOT_OBSERVE))
        fprintf(file, " observe %u", message_uint(&m, SLOT_OBSERVE, 0));
    fprintf(file, " \"%.*s\"\n", (int)m.payload_length, (const char *)m.payload);
}
