#include "tests/sim/dtls_record.h"

#include "tests/dtls/peer_parts.h"

static bool read_one(const uint8_t *data, size_t length, uint8_t cid_length,
                     struct record_view *view, struct record_seen *out)
{
    struct reader all = {.at = data, .end = data + length};

    if (!peer_record_next(&all, cid_length, view))
        return false;
    *out = (struct record_seen){.type = view->type,
                                .epoch = view->epoch,
                                .sequence = view->sequence,
                                .cid = view->cid,
                                .length = (size_t)(all.at - data)};
    return true;
}

bool record_look(const uint8_t *data, size_t length, uint8_t cid_length, struct record_seen *out)
{
    struct record_view view;

    return read_one(data, length, cid_length, &view, out);
}

bool record_is_under(struct peer *keys, const uint8_t *data, size_t length, uint8_t cid_length,
                     struct record_seen *out)
{
    const struct suite *suite = peer_suite_find(keys->suite);
    uint8_t content[PEER_RECORD_MAX], type;
    struct record_view view;

    if (!suite || !read_one(data, length, cid_length, &view, out) ||
        peer_record_open(keys, &view, content, &type) < 0)
        return false;
    out->nonce = suite->explicit_bytes ? peer_number_read(view.fragment, 8)
                                       : (uint64_t)view.epoch << 48 | view.sequence;
    return true;
}
