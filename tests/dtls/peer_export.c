/* What an association is, for those who look. */
#include <string.h>

#include "tests/dtls/peer_parts.h"

enum peer_state peer_state(const struct peer *p)
{
    return (enum peer_state)p->state;
}

int peer_error(const struct peer *p)
{
    return p->error;
}

uint32_t peer_refused(const struct peer *p)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < PEER_REFUSALS; i++)
        sum += p->refused[i];
    return sum;
}

bool peer_session_get(const struct peer *p, struct peer_session *session)
{
    *session = (struct peer_session){
        .suite = p->suite,
        .extended = p->extended,
        .id_length = p->session_id_length,
        .ticket_length = p->ticket_length,
        .ticket = p->ticket,
    };
    memcpy(session->id, p->session_id, p->session_id_length);
    memcpy(session->master, p->master, PEER_MASTER_BYTES);
    return p->ready && p->state != PEER_CONNECTING && p->state != PEER_FAILED &&
           (session->id_length || session->ticket_length);
}

void peer_export(const struct peer *p, struct peer_export *out)
{
    const struct suite *suite = peer_suite_find(p->suite);

    *out = (struct peer_export){
        .suite = p->suite,
        .extended = p->extended,
        .resumed = p->resumed,
        .cid_agreed = p->cid_agreed,
        .key_bytes = suite ? suite->key_bytes : 0,
        .iv_bytes = suite ? suite->iv_bytes : 0,
        .write = p->write,
        .read = p->read,
        .write_sequence = {p->write_sequence[0], p->write_sequence[1]},
        .read_top = p->windows[1].top,
        .server_cid_length = p->server_cid_length,
    };
    memcpy(out->master, p->master, PEER_MASTER_BYTES);
    memcpy(out->server_cid, p->server_cid, p->server_cid_length);
}
