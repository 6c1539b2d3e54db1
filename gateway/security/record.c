#include "gateway/security/record.h"

#include <errno.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "gateway/bytes.h"

#define TYPE_AT     0u
#define VERSION_AT  1u
#define EPOCH_AT    3u
#define SEQUENCE_AT 5u

/* Text, type, and no more: RFC 9146 4 with the bound of RFC 8446 5.4, from which it is. */
#define INNER_MAX (RECORD_PLAIN_MAX + 1)

static uint64_t read_number(const uint8_t *at, unsigned bytes)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < bytes; i++)
        number = number << 8 | at[i];
    return number;
}

static void write_number(uint8_t *at, uint64_t number, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0; number >>= 8)
        at[i] = (uint8_t)number;
}

static bool is_content(uint8_t type)
{
    return type >= RECORD_CHANGE_CIPHER_SPEC && type <= RECORD_APPLICATION_DATA;
}

static bool is_version(uint16_t version, uint16_t epoch)
{
    return version == RECORD_VERSION_1_2 || (version == RECORD_VERSION_1_0 && epoch == 0);
}

int record_next(const uint8_t *data, size_t length, uint8_t cid_length, struct record_view *out)
{
    struct record_view view = {.header = data};

    if (length < RECORD_HEADER_BYTES)
        return -EBADMSG;
    view.type = data[TYPE_AT];
    view.version = (uint16_t)read_number(data + VERSION_AT, 2);
    view.epoch = (uint16_t)read_number(data + EPOCH_AT, 2);
    view.sequence = read_number(data + SEQUENCE_AT, 6);
    if (view.type == RECORD_CID && cid_length && view.epoch)
        view.cid_length = cid_length;
    else if (!is_content(view.type))
        return -EBADMSG;
    view.header_length = (uint8_t)(RECORD_HEADER_BYTES + view.cid_length);
    if (!is_version(view.version, view.epoch) || length <= view.header_length)
        return -EBADMSG;
    view.cid = view.cid_length ? data + RECORD_CID_AT : NULL;
    view.body = data + view.header_length;
    view.length = (uint16_t)read_number(view.body - 2, 2);
    if (view.length == 0 || view.length > (view.epoch ? RECORD_BODY_MAX : RECORD_PLAIN_MAX) ||
        view.length > length - view.header_length)
        return -EBADMSG;
    *out = view;
    return view.header_length + view.length;
}

unsigned record_lead(enum suite suite, uint8_t cid_length)
{
    return RECORD_HEADER_BYTES + cid_length + suite_explicit_bytes(suite);
}

unsigned record_trail(enum suite suite, uint8_t cid_length)
{
    return (cid_length ? 1 : 0) + suite_tag_bytes(suite);
}

/* What is authentic beside the text, from a header: RFC 5246 6.2.3.3, or RFC 9146 5.3. */
static void job_header(struct aead_job *job, const uint8_t *header, uint8_t cid_length,
                       size_t text_length)
{
    uint8_t *at = job->additional;

    if (cid_length) {
        memset(at, 0xff, 8);
        at[8] = RECORD_CID;
        at[9] = cid_length;
        bytes_copy(at + 10, header, RECORD_CID_AT + cid_length);
        at += 10 + RECORD_CID_AT + cid_length;
    } else {
        memcpy(at, header + EPOCH_AT, 8);
        memcpy(at + 8, header, 3);
        at += 11;
    }
    write_number(at, text_length, 2);
    job->additional_length = (uint8_t)(at + 2 - job->additional);
}

/* The nonce: RFC 5288 3 and RFC 6655 3, or RFC 7905 2, where it follows from epoch and sequence. */
static void job_nonce(struct aead_job *job, const uint8_t *header, const uint8_t *explicit)
{
    const struct record_key *key = job->key;

    memcpy(job->nonce, key->salt, sizeof(job->nonce));
    if (suite_explicit_bytes(key->suite))
        memcpy(job->nonce + 4, explicit, 8);
    else
        for (unsigned i = 0; i < 8; i++)
            job->nonce[4 + i] ^= header[EPOCH_AT + i];
}

static int mark_check(const struct record_mark *mark, size_t plain_length)
{
    if (!is_content(mark->type) || mark->epoch == 0 || mark->cid_length > RECORD_CID_MAX)
        return -EINVAL;
    if (mark->sequence > RECORD_SEQUENCE_LAST)
        return -EOVERFLOW;
    return plain_length > RECORD_PLAIN_MAX ? -EMSGSIZE : 0;
}

static void header_write(uint8_t *header, const struct record_mark *mark, size_t body_length)
{
    unsigned length = RECORD_HEADER_BYTES + mark->cid_length;

    header[TYPE_AT] = mark->cid_length ? (uint8_t)RECORD_CID : mark->type;
    write_number(header + VERSION_AT, RECORD_VERSION_1_2, 2);
    write_number(header + EPOCH_AT, mark->epoch, 2);
    write_number(header + SEQUENCE_AT, mark->sequence, 6);
    bytes_copy(header + RECORD_CID_AT, mark->cid, mark->cid_length);
    write_number(header + length - 2, body_length, 2);
}

int record_seal(struct aead *aead, uint64_t slot, const struct record_key *key,
                const struct record_mark *mark, uint8_t *record, size_t plain_length)
{
    struct aead_job job = {.slot = slot, .key = key};
    uint8_t cid_length = mark->cid_length;
    unsigned header = RECORD_HEADER_BYTES + cid_length;
    unsigned lead = record_lead(key->suite, cid_length);
    size_t inner = plain_length + (cid_length ? 1 : 0);
    size_t length = lead + inner + suite_tag_bytes(key->suite);
    int status = mark_check(mark, plain_length);

    if (status < 0)
        return status;
    header_write(record, mark, length - header);
    if (cid_length)
        record[lead + plain_length] = mark->type;
    memcpy(record + header, record + EPOCH_AT, lead - header); /* unique as the sequence is */
    job_header(&job, record, cid_length, inner);
    job_nonce(&job, record, record + header);
    status = aead_seal(aead, &job, record + lead, inner);
    return status < 0 ? status : (int)length;
}

/* The content's length in the plaintext of a record with a Connection ID, and its type, which is
 * the last byte that is not zero (RFC 9146 4). -EBADMSG: there is none. */
static int inner_length(const uint8_t *inner, size_t length, uint8_t *type)
{
    while (length > 0 && inner[length - 1] == 0)
        length--;
    if (length == 0)
        return -EBADMSG;
    *type = inner[length - 1];
    return (int)(length - 1);
}

int record_open(struct aead *aead, uint64_t slot, const struct record_key *key,
                const struct record_view *view, uint8_t *out, uint8_t *type)
{
    struct aead_job job = {.slot = slot, .key = key};
    unsigned explicit = suite_explicit_bytes(key->suite);
    unsigned overhead = explicit + suite_tag_bytes(key->suite);
    int length = (int)view->length - (int)overhead;

    if (length < 0 || length > (int)(view->cid_length ? INNER_MAX : RECORD_PLAIN_MAX) ||
        view->epoch == 0 || view->version != RECORD_VERSION_1_2 ||
        view->cid_length > RECORD_CID_MAX)
        return -EBADMSG;
    job_header(&job, view->header, view->cid_length, (size_t)length);
    job_nonce(&job, view->header, view->body);
    if (aead_open(aead, &job, view->body + explicit, (size_t)length, out) < 0)
        return -EBADMSG;
    *type = view->type;
    if (view->cid_length)
        length = inner_length(out, (size_t)length, type);
    /* RFC 5246 6.2.1: only application data may be empty. */
    if (length < 0 || !is_content(*type) || (length == 0 && *type != RECORD_APPLICATION_DATA))
        return -EBADMSG;
    return length;
}

/* The key block (RFC 5246 6.3), by the PRF of the suite. */
static bool prf(enum suite suite, const uint8_t *master, const uint8_t *seed, size_t seed_length,
                uint8_t *out, size_t length)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)suite_digest(suite), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, (uint8_t *)master,
                                          RECORD_MASTER_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, (uint8_t *)seed, seed_length),
        OSSL_PARAM_construct_end(),
    };
    bool done = context && EVP_KDF_derive(context, out, length, parameters) == 1;

    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return done;
}

static const uint8_t *key_part(uint8_t *to, const uint8_t *from, unsigned length)
{
    memcpy(to, from, length);
    return from + length;
}

int record_derive(enum suite suite, const uint8_t master[RECORD_MASTER_BYTES],
                  const uint8_t client_random[RECORD_RANDOM_BYTES],
                  const uint8_t server_random[RECORD_RANDOM_BYTES], struct record_key *client,
                  struct record_key *server)
{
    static const char label[] = "key expansion";
    uint8_t seed[sizeof(label) - 1 + 2 * RECORD_RANDOM_BYTES];
    uint8_t block[2 * (AEAD_KEY_MAX + AEAD_NONCE_BYTES)];
    unsigned key = suite_key_bytes(suite), salt = suite_salt_bytes(suite);
    const uint8_t *at = block;

    memcpy(seed, label, sizeof(label) - 1);
    memcpy(seed + sizeof(label) - 1, server_random, RECORD_RANDOM_BYTES);
    memcpy(seed + sizeof(label) - 1 + RECORD_RANDOM_BYTES, client_random, RECORD_RANDOM_BYTES);
    if (!prf(suite, master, seed, sizeof(seed), block, 2 * (key + salt))) {
        ERR_clear_error();
        return -EIO;
    }
    *client = (struct record_key){.suite = (uint8_t)suite};
    *server = *client;
    at = key_part(client->key, at, key);
    at = key_part(server->key, at, key);
    at = key_part(client->salt, at, salt);
    key_part(server->salt, at, salt);
    OPENSSL_cleanse(block, sizeof(block));
    return 0;
}

bool window_is_fresh(const struct record_window *window, uint64_t sequence)
{
    uint64_t behind = window->top - sequence;

    if (!window->any || sequence > window->top)
        return true;
    return behind < RECORD_WINDOW && !(window->mask >> behind & 1);
}

void window_mark(struct record_window *window, uint64_t sequence)
{
    uint64_t ahead = sequence - window->top;

    if (!window->any) {
        *window = (struct record_window){.top = sequence, .mask = 1, .any = true};
    } else if (sequence > window->top) {
        window->mask = ahead < RECORD_WINDOW ? window->mask << ahead | 1 : 1;
        window->top = sequence;
    } else if (window->top - sequence < RECORD_WINDOW) {
        window->mask |= (uint64_t)1 << (window->top - sequence);
    }
}
