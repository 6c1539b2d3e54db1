#include "gateway/session/unsupported.h"

/* "option 65001 not supported", without formatted printing: this is the packet path. */
static const char *text_of(uint16_t number, char text[32])
{
    char digits[6];
    unsigned n = 0;
    char *at = text;

    do
        digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    memcpy(at, "option ", 7);
    at += 7;
    while (n)
        *at++ = digits[--n];
    memcpy(at, " not supported", 15);
    return text;
}

uint16_t unsupported_option(const struct message *msg, uint32_t understood)
{
    uint32_t critical = msg->present & option_critical_slots & ~understood;

    if (critical && !msg->unknown_critical)
        return option_table[__builtin_ctz(critical)].number;
    return msg->unknown_critical;
}

void unsupported_refuse(struct messaging *m, const struct request *rq, uint16_t number)
{
    char text[32];

    if (rq->message->type == TYPE_CON) {
        reply_code(m, rq, CODE_BAD_OPTION, text_of(number, text));
        return;
    }
    m->counters->drop_bad_option++;
    if (!rq->multicast)
        messaging_send_empty(m, &rq->session->flow, TYPE_RST, rq->message->mid);
}
