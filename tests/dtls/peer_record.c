/* Records: RFC 6347 4.1, and those with a Connection ID, RFC 9146 4 and 5. */
#include <errno.h>
#include <string.h>

#include "tests/dtls/peer_parts.h"

#define WINDOW_BITS 64

bool peer_window_is_new(const struct peer_window *w, uint64_t sequence)
{
    uint64_t behind;

    if (sequence > w->top || w->seen == 0)
        return true;
    behind = w->top - sequence;
    return behind < WINDOW_BITS && !(w->seen >> behind & 1);
}

void peer_window_mark(struct peer_window *w, uint64_t sequence)
{
    uint64_t ahead;

    if (sequence <= w->top && w->seen != 0) {
        w->seen |= 1ull << (w->top - sequence);
        return;
    }
    ahead = sequence - w->top;
    w->seen = ahead < WINDOW_BITS ? w->seen << ahead | 1 : 1;
    w->top = sequence;
}

size_t peer_record_aad(const struct record_view *r, size_t plain_length, uint8_t aad[AAD_MAX])
{
    uint64_t number = (uint64_t)r->epoch << 48 | r->sequence;

    if (r->type != PEER_CID) {
        peer_number_write(aad, number, 8);
        aad[8] = r->type;
        peer_number_write(aad + 9, r->version, 2);
        peer_number_write(aad + 11, plain_length, 2);
        return 13;
    }
    memset(aad, 0xff, 8);
    aad[8] = PEER_CID;
    aad[9] = r->cid_length;
    aad[10] = PEER_CID;
    peer_number_write(aad + 11, r->version, 2);
    peer_number_write(aad + 13, number, 8);
    if (r->cid_length)
        memcpy(aad + 21, r->cid, r->cid_length);
    peer_number_write(aad + 21 + r->cid_length, plain_length, 2);
    return 23u + r->cid_length;
}

bool peer_record_next(struct reader *datagram, uint8_t cid_length, struct record_view *r)
{
    if (reader_left(datagram) == 0)
        return false;
    r->type = (uint8_t)peer_reader_number(datagram, 1);
    r->version = (uint16_t)peer_reader_number(datagram, 2);
    r->epoch = (uint16_t)peer_reader_number(datagram, 2);
    r->sequence = peer_reader_number(datagram, 6);
    r->cid_length = r->type == PEER_CID ? cid_length : 0;
    r->cid = peer_reader_take(datagram, r->cid_length);
    r->length = peer_reader_number(datagram, 2);
    r->fragment = peer_reader_take(datagram, r->length);
    return !datagram->failed;
}

/* Takes padding and real type off (RFC 9146 4): -EBADMSG when there is no type. */
static int inner_strip(const uint8_t *plain, int length, uint8_t *type)
{
    while (length > 0 && plain[length - 1] == 0)
        length--;
    if (length == 0)
        return -EBADMSG;
    *type = plain[length - 1];
    return length - 1;
}

int peer_record_open(struct peer *p, const struct record_view *r, uint8_t *out, uint8_t *type)
{
    const struct suite *suite = peer_suite_find(p->suite);
    uint64_t number = (uint64_t)r->epoch << 48 | r->sequence;
    uint8_t aad[AAD_MAX];
    struct aead_call call = {.key = p->read.key, .aad = aad};
    size_t overhead = (size_t)suite->explicit_bytes + suite->tag_bytes;
    size_t plain;

    if (r->length < overhead || r->length > PEER_CONTENT_MAX + overhead + 256)
        return -EBADMSG;
    plain = r->length - overhead;
    if (suite->explicit_bytes)
        number = peer_number_read(r->fragment, 8);
    peer_nonce_write(suite, p->read.iv, number, call.nonce);
    call.aad_length = peer_record_aad(r, plain, aad);
    if (peer_aead_open(p->setup.crypto, suite, &call, r->fragment + suite->explicit_bytes,
                       r->length - suite->explicit_bytes, out) < 0)
        return -EBADMSG;
    *type = r->type;
    return r->type == PEER_CID ? inner_strip(out, (int)plain, type) : (int)plain;
}

void peer_record_fill(const struct peer *p, uint16_t epoch, uint8_t type, const void *content,
                      size_t length, struct peer_record *record)
{
    const struct suite *suite = peer_suite_find(p->suite);
    bool cid = epoch == 1 && p->server_cid_length > 0;

    *record = (struct peer_record){
        .type = type,
        .outer_type = cid ? PEER_CID : type,
        .protect = epoch == 1,
        .version = DTLS_1_2,
        .epoch = epoch,
        .sequence = p->write_sequence[epoch],
        .nonce = (uint64_t)epoch << 48 | p->write_sequence[epoch],
        .cid_length = cid ? p->server_cid_length : 0,
        .padding = cid ? p->setup.padding : 0,
        .tag_bytes = suite ? suite->tag_bytes : 0,
        .keys = p->write,
        .content = content,
        .length = length,
    };
    memcpy(record->cid, p->server_cid, record->cid_length);
}

void peer_record(const struct peer *p, uint8_t type, const void *content, size_t length,
                 struct peer_record *record)
{
    peer_record_fill(p, p->write_epoch, type, content, length, record);
}

/* Content, real type and zeros, where it is in CID form; otherwise the content. */
static size_t inner_write(const struct peer_record *record, uint8_t *out)
{
    if (record->length)
        memcpy(out, record->content, record->length);
    if (record->outer_type != PEER_CID)
        return record->length;
    out[record->length] = record->type;
    memset(out + record->length + 1, 0, record->padding);
    return record->length + 1 + record->padding;
}

/* Protects `length` bytes at out + explicit_bytes where they stand. Bytes with nonce and tag. */
static int body_seal(const struct peer *p, const struct peer_record *record,
                     const struct suite *suite, uint8_t *out, size_t length)
{
    struct record_view view = {.type = record->outer_type,
                               .version = record->version,
                               .epoch = record->epoch,
                               .sequence = record->sequence,
                               .cid = record->cid,
                               .cid_length = record->cid_length};
    uint8_t aad[AAD_MAX];
    struct aead_call call = {.key = record->keys.key, .aad = aad};
    uint8_t *body = out + suite->explicit_bytes;
    int error;

    call.aad_length = peer_record_aad(&view, length, aad);
    peer_nonce_write(suite, record->keys.iv, record->nonce, call.nonce);
    if (suite->explicit_bytes)
        peer_number_write(out, record->nonce, 8);
    error = peer_aead_seal(p->setup.crypto, suite, &call, body, length, body);
    if (error < 0)
        return error;
    return (int)(suite->explicit_bytes + length + record->tag_bytes);
}

int peer_seal(const struct peer *p, const struct peer_record *record, uint8_t *out, size_t room)
{
    const struct suite *suite = peer_suite_find(p->suite);
    size_t cid = record->outer_type == PEER_CID ? record->cid_length : 0;
    uint8_t *body = out + RECORD_HEADER + cid;
    int length;

    if (record->protect && (!suite || record->tag_bytes > suite->tag_bytes))
        return -EINVAL;
    if (PEER_RECORD_ROOM(record->length) > room)
        return -EMSGSIZE;
    out[0] = record->outer_type;
    peer_number_write(out + 1, record->version, 2);
    peer_number_write(out + 3, record->epoch, 2);
    peer_number_write(out + 5, record->sequence, 6);
    memcpy(out + 11, record->cid, cid);
    length = (int)inner_write(record, body + (record->protect ? suite->explicit_bytes : 0));
    if (record->protect)
        length = body_seal(p, record, suite, body, (size_t)length);
    if (length < 0)
        return length;
    peer_number_write(body - 2, (uint64_t)(length + record->length_error), 2);
    return (int)(body - out) + length;
}
