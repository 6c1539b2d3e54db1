#include "gateway/security/principal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/x509v3.h>

int principal_set(struct principal *out, enum principal_kind kind, const void *text, size_t length)
{
    out->kind = PRINCIPAL_NONE;
    out->length = 0;
    if (length == 0 || length > PRINCIPAL_MAX || memchr(text, 0, length))
        return -EMSGSIZE;
    memcpy(out->text, text, length);
    out->length = (uint8_t)length;
    out->kind = (uint8_t)kind;
    return 0;
}

/* ---- names of certificates ---- */

static int set_name(struct principal *out, const ASN1_STRING *name)
{
    return principal_set(out, PRINCIPAL_CERTIFICATE, ASN1_STRING_get0_data(name),
                         (size_t)ASN1_STRING_length(name));
}

/* The first alternative name of a type. -ENOENT when there is none. */
static int set_alternative(struct principal *out, const GENERAL_NAMES *names, int type)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int found;
        const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &found);

        if (found == type)
            return set_name(out, value);
    }
    return -ENOENT;
}

/* The last common name of the subject is the most specific one. */
static int set_common_name(struct principal *out, const X509 *certificate)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    const ASN1_STRING *value;
    unsigned char *utf8;
    int last = -1, length, err;

    for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;)
        last = i;
    if (last < 0)
        return -ENOENT;
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last));
    length = ASN1_STRING_to_UTF8(&utf8, value);
    if (length < 0)
        return -EMSGSIZE;
    err = principal_set(out, PRINCIPAL_CERTIFICATE, utf8, (size_t)length);
    OPENSSL_free(utf8);
    return err;
}

int principal_of_certificate(const X509 *certificate, struct principal *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int err;

    out->kind = PRINCIPAL_NONE;
    out->length = 0;
    err = set_alternative(out, names, GEN_DNS);
    if (err == -ENOENT)
        err = set_alternative(out, names, GEN_URI);
    GENERAL_NAMES_free(names);
    return err == -ENOENT ? set_common_name(out, certificate) : err;
}

/* ---- as text ---- */

const char *principal_format(const struct principal *p, char text[PRINCIPAL_TEXT_BYTES])
{
    size_t length = 0;

    text[0] = '\0';
    if (p->kind == PRINCIPAL_NONE)
        return text;
    length = (size_t)sprintf(text, "%s", p->kind == PRINCIPAL_PSK ? "psk:" : "cert:");
    for (unsigned i = 0; i < p->length; i++) {
        uint8_t c = (uint8_t)p->text[i];

        if (c < 0x20 || c > 0x7e || c == '\\')
            length += (size_t)sprintf(text + length, "\\x%02x", c);
        else
            text[length++] = (char)c;
    }
    text[length] = '\0';
    return text;
}

/* ---- patterns ---- */

static bool same_bytes(const char *a, const char *b, size_t length, bool fold)
{
    return fold ? strncasecmp(a, b, length) == 0 : memcmp(a, b, length) == 0;
}

/* "*" at the end is any rest, an empty one too. */
static bool matches_text(const struct principal *p, const char *pattern, bool fold)
{
    size_t length = strlen(pattern);

    if (length && pattern[length - 1] == '*')
        return p->length >= length - 1 && same_bytes(p->text, pattern, length - 1, fold);
    return p->length == length && same_bytes(p->text, pattern, length, fold);
}

bool principal_name_matches(const struct principal *p, const char *pattern)
{
    size_t tail = strlen(pattern);

    if (p->kind != PRINCIPAL_CERTIFICATE)
        return false;
    if (pattern[0] != '*' || pattern[1] != '.')
        return matches_text(p, pattern, true);
    tail--; /* from the point on; the label in front of it is not empty */
    return p->length > tail && p->text[0] != '.' &&
           same_bytes(p->text + p->length - tail, pattern + 1, tail, true);
}

bool principal_matches(const struct principal *p, const char *pattern)
{
    if (strncmp(pattern, "cert:", 5) == 0)
        return principal_name_matches(p, pattern + 5);
    return strncmp(pattern, "psk:", 4) == 0 && p->kind == PRINCIPAL_PSK &&
           matches_text(p, pattern + 4, false);
}
