#include "gateway/security/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "gateway/security/psk.h"

#define FILE_MAX (64 << 20) /* bytes: large CRLs */

/* ---- complaints ---- */

static void say(struct complaints *c, const struct config_file *file, const char *key,
                unsigned line, const char *mark, const char *format, va_list arguments)
{
    fprintf(c->out, "%s:%u: %s[%u].dtls.%s: %s%s: ", c->config->file, file->line, c->list, c->index,
            key, mark, file->path);
    if (line)
        fprintf(c->out, "line %u: ", line);
    vfprintf(c->out, format, arguments);
    fputc('\n', c->out);
}

void complain(struct complaints *c, const struct config_file *file, const char *key, unsigned line,
              const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(c, file, key, line, "", format, arguments);
    va_end(arguments);
    c->wrong++;
}

void complain_softly(struct complaints *c, const struct config_file *file, const char *key,
                     unsigned line, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(c, file, key, line, "warning: ", format, arguments);
    va_end(arguments);
}

/* ---- files ---- */

static int open_file(const struct pem *pem, unsigned flags, struct complaints *c, size_t *length)
{
    int fd = open(pem->file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0) {
        complain(c, pem->file, pem->key, 0, "cannot be opened (%s); name a file that can be read",
                 strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        complain(c, pem->file, pem->key, 0, "is not a regular file; name one");
    else if ((flags & PEM_PRIVATE) && (status.st_mode & (S_IROTH | S_IWOTH)))
        complain(c, pem->file, pem->key, 0,
                 "is open to everybody on this machine; take that away with chmod o=");
    else if (status.st_size > FILE_MAX)
        complain(c, pem->file, pem->key, 0, "has more than %d MiB; write a smaller one",
                 FILE_MAX >> 20);
    else {
        *length = (size_t)status.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

static ssize_t read_all(int fd, char *text, size_t room)
{
    size_t length = 0;
    ssize_t n;

    do {
        n = read(fd, text + length, room - length);
        if (n > 0)
            length += (size_t)n;
    } while ((n > 0 && length < room) || (n < 0 && errno == EINTR));
    return n < 0 ? -errno : (ssize_t)length;
}

void pem_read(struct pem *pem, const struct config_file *file, const char *key, unsigned flags,
              struct complaints *c)
{
    size_t length = 0;
    ssize_t n = -ENOMEM;
    int fd;

    *pem = (struct pem){.file = file, .key = key};
    if (!file->path)
        return;
    fd = open_file(pem, flags, c, &length);
    if (fd < 0)
        return;
    pem->text = calloc(1, length + 1);
    if (pem->text)
        n = read_all(fd, pem->text, length);
    close(fd);
    if (n >= 0) {
        pem->length = (size_t)n;
        return;
    }
    complain(c, file, key, 0, "cannot be read (%s); name a file that can be read",
             strerror((int)-n));
    pem_free(pem);
}

void pem_free(struct pem *pem)
{
    if (pem->text)
        explicit_bzero(pem->text, pem->length);
    free(pem->text);
    pem->text = NULL;
    pem->length = 0;
}

/* ---- what is in them ---- */

static unsigned line_at(const struct pem *pem, size_t offset)
{
    unsigned line = 1;

    for (size_t i = 0; i < offset && i < pem->length; i++)
        line += pem->text[i] == '\n';
    return line;
}

/* The line of the block that begins behind `offset`, or the file's last one. */
static unsigned block_line(const struct pem *pem, size_t offset)
{
    const char *begin = offset < pem->length ? strstr(pem->text + offset, "-----BEGIN") : NULL;

    return line_at(pem, begin ? (size_t)(begin - pem->text) : pem->length);
}

/* True at the end of the blocks, false when one was there that is broken. */
static bool is_end(void)
{
    unsigned long err = ERR_peek_last_error();

    return ERR_GET_LIB(err) == ERR_LIB_PEM && ERR_GET_REASON(err) == PEM_R_NO_START_LINE;
}

typedef void *(*read_block)(BIO *bio);

static void *read_certificate(BIO *bio)
{
    return PEM_read_bio_X509(bio, NULL, NULL, NULL);
}

static void *read_crl(BIO *bio)
{
    return PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
}

/* All blocks of one kind into `list`; other kinds are passed over. False: said. */
static bool read_blocks(const struct pem *pem, read_block read_one, const char *what,
                        OPENSSL_STACK *list, struct complaints *c)
{
    BIO *bio = BIO_new_mem_buf(pem->text, (int)pem->length);
    unsigned before = c->wrong;
    size_t offset = 0;
    void *block;

    while (bio && (block = read_one(bio))) {
        OPENSSL_sk_push(list, block);
        offset = pem->length - (size_t)BIO_pending(bio);
    }
    if (!bio)
        complain(c, pem->file, pem->key, 0, "cannot be read (no memory); free some");
    else if (!is_end())
        complain(c, pem->file, pem->key, block_line(pem, offset),
                 "is not a %s in PEM (%s); write another one", what,
                 ERR_reason_error_string(ERR_peek_last_error()));
    else if (OPENSSL_sk_num(list) == 0)
        complain(c, pem->file, pem->key, 0, "has no %s; write one in PEM", what);
    ERR_clear_error();
    BIO_free(bio);
    return c->wrong == before;
}

STACK_OF(X509) * pem_certificates(const struct pem *pem, struct complaints *c)
{
    STACK_OF(X509) *list = sk_X509_new_null();

    if (read_blocks(pem, read_certificate, "certificate", (OPENSSL_STACK *)list, c))
        return list;
    sk_X509_pop_free(list, X509_free);
    return NULL;
}

STACK_OF(X509_CRL) * pem_crls(const struct pem *pem, struct complaints *c)
{
    STACK_OF(X509_CRL) *list = sk_X509_CRL_new_null();

    if (read_blocks(pem, read_crl, "CRL", (OPENSSL_STACK *)list, c))
        return list;
    sk_X509_CRL_pop_free(list, X509_CRL_free);
    return NULL;
}

/* Nobody is asked for a passphrase. */
static int no_passphrase(char *buffer, int room, int writing, void *asked)
{
    (void)buffer;
    (void)room;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

EVP_PKEY *pem_private_key(const struct pem *pem, struct complaints *c)
{
    BIO *bio = BIO_new_mem_buf(pem->text, (int)pem->length);
    bool encrypted = false;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted) : NULL;

    if (!key && encrypted)
        complain(c, pem->file, pem->key, block_line(pem, 0),
                 "is encrypted; write the key without a passphrase");
    else if (!key)
        complain(c, pem->file, pem->key, 0, "has no private key; write one in PEM");
    ERR_clear_error();
    BIO_free(bio);
    return key;
}

unsigned pem_hex_key(const struct pem *pem, struct complaints *c, unsigned char *key)
{
    size_t length = strcspn(pem->text, "\r\n");
    int n = psk_parse_key(pem->text, length, key);

    if (n < 0)
        complain(c, pem->file, pem->key, 1,
                 "is not a key; write 1 to %d bytes as pairs of hexadecimal digits", PSK_KEY_MAX);
    else if (n < PSK_KEY_SHORT)
        complain_softly(c, pem->file, pem->key, 1, "the key has only %d bytes; write at least %d",
                        n, PSK_KEY_SHORT);
    return n < 0 ? 0 : (unsigned)n;
}
