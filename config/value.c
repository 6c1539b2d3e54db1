#include "config/value.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t worth;
};

static const struct unit durations[] = {{"us", 1},       {"ms", 1000},      {"s", 1000000},
                                        {"m", 60000000}, {"h", 3600000000}, {NULL, 0}};

static const struct unit sizes[] = {{"B", 1},
                                    {"kB", 1000},
                                    {"KB", 1000},
                                    {"MB", 1000000},
                                    {"GB", 1000000000},
                                    {"KiB", UINT64_C(1) << 10},
                                    {"MiB", UINT64_C(1) << 20},
                                    {"GiB", UINT64_C(1) << 30},
                                    {NULL, 0}};

/* ---- numbers ---- */

/* Digits to a number; *end stands behind them. -EINVAL when there are none. */
static int read_digits(const char *text, const char **end, uint64_t *out)
{
    uint64_t value = 0;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return -ERANGE;
    *end = text;
    *out = value;
    return 0;
}

/* The digits behind a point as a part of `worth`; -EINVAL when that is not whole, or when there are
 * more than nine of them, zeros at the end apart. */
static int read_fraction(const char **text, uint64_t worth, uint64_t *out)
{
    size_t length = strspn(*text, "0123456789"), used = length;
    uint64_t numerator = 0, denominator = 1;

    while (used && (*text)[used - 1] == '0')
        used--;
    if (length == 0 || used > 9)
        return -EINVAL;
    for (size_t i = 0; i < used; i++) {
        numerator = numerator * 10 + (uint64_t)((*text)[i] - '0');
        denominator *= 10;
    }
    if (worth * numerator % denominator != 0) /* below 3.6e9 * 1e9: no overflow */
        return -EINVAL;
    *out = worth * numerator / denominator;
    *text += length;
    return 0;
}

/* Where the number ends and its unit begins. */
static const char *skip_number(const char *text)
{
    return text + strspn(text, "0123456789.");
}

static int read_scaled(const char *text, uint64_t worth, uint64_t *out)
{
    uint64_t whole, part = 0;
    int err = read_digits(text, &text, &whole);

    if (err)
        return err;
    if (*text == '.') {
        text++;
        err = read_fraction(&text, worth, &part);
        if (err)
            return err;
        if (*text == '.')
            return -EINVAL;
    }
    if (__builtin_mul_overflow(whole, worth, &whole) || __builtin_add_overflow(whole, part, &whole))
        return -ERANGE;
    *out = whole;
    return 0;
}

static int read_with_unit(const char *text, const struct unit *units, uint64_t *out)
{
    const char *name = skip_number(text);

    if (strcmp(text, "0") == 0) {
        *out = 0;
        return 0;
    }
    for (; units->name; units++)
        if (strcmp(units->name, name) == 0)
            return read_scaled(text, units->worth, out);
    return -EINVAL;
}

int value_count(const char *text, uint64_t *out)
{
    const char *end;
    int err = read_digits(text, &end, out);

    return err ? err : *end ? -EINVAL : 0;
}

int value_duration(const char *text, uint64_t *us)
{
    return read_with_unit(text, durations, us);
}

int value_size(const char *text, uint64_t *bytes)
{
    return read_with_unit(text, sizes, bytes);
}

int value_milli(const char *text, uint64_t *out)
{
    return *skip_number(text) ? -EINVAL : read_scaled(text, 1000, out);
}

/* ---- addresses ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int value_mac(const char *text, uint8_t mac[6])
{
    for (unsigned i = 0; i < 6; i++, text += 3) {
        int high = hex_digit(text[0]);
        int low = high < 0 ? -1 : hex_digit(text[1]);

        if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
            return -EINVAL;
        mac[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

int value_prefix(const char *text, struct config_address *out)
{
    char address[ENDPOINT_TEXT_BYTES];
    const char *slash = strchrnul(text, '/');
    size_t length = (size_t)(slash - text);
    uint64_t prefix;
    int err;

    if (length >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, length);
    address[length] = '\0';
    if (address_parse(address, &out->address) < 0)
        return -EINVAL;
    if (!*slash)
        return -ENOENT;
    err = value_count(slash + 1, &prefix);
    if (err)
        return err;
    if (prefix > (address_is_v4(&out->address) ? 32 : 128))
        return -ERANGE;
    out->prefix = (uint8_t)prefix;
    return 0;
}

/* ---- cores ---- */

static int add_core(uint16_t core, uint16_t *cores, unsigned room, unsigned *count)
{
    for (unsigned i = 0; i < *count; i++)
        if (cores[i] == core)
            return -EEXIST;
    if (*count == room)
        return -E2BIG;
    cores[(*count)++] = core;
    return 0;
}

/* "2" or "2-5" and what follows it, in *end. */
static int read_range(const char *text, const char **end, uint64_t *first, uint64_t *last)
{
    int err = read_digits(text, end, first);

    *last = *first;
    if (!err && **end == '-')
        err = read_digits(*end + 1, end, last);
    return err ? err : *last < *first ? -EINVAL : 0;
}

int value_cores(const char *text, uint16_t core_max, uint16_t *cores, unsigned room,
                unsigned *count)
{
    uint64_t first = 0, last = 0;
    int err;

    *count = 0;
    for (;; text++) {
        err = read_range(text, &text, &first, &last);
        if (err)
            return err;
        if (last > core_max)
            return -ERANGE;
        for (uint64_t core = first; core <= last; core++) {
            err = add_core((uint16_t)core, cores, room, count);
            if (err)
                return err;
        }
        if (*text != ',')
            return *text ? -EINVAL : 0;
    }
}

/* ---- content formats ---- */

/* IANA, "CoAP Content-Formats" of the registry group "Constrained RESTful Environments (CoRE)
 * Parameters". Names as written there, without blanks. */
static const struct {
    const char *name;
    uint16_t number;
} content_formats[] = {
    {"text/plain", 0},
    {"text/plain;charset=utf-8", 0},
    {"application/cose;cose-type=\"cose-encrypt0\"", 16},
    {"application/cose;cose-type=\"cose-mac0\"", 17},
    {"application/cose;cose-type=\"cose-sign1\"", 18},
    {"application/ace+cbor", 19},
    {"image/gif", 21},
    {"image/jpeg", 22},
    {"image/png", 23},
    {"application/link-format", 40},
    {"application/xml", 41},
    {"application/octet-stream", 42},
    {"application/exi", 47},
    {"application/json", 50},
    {"application/json-patch+json", 51},
    {"application/merge-patch+json", 52},
    {"application/cbor", 60},
    {"application/cwt", 61},
    {"application/multipart-core", 62},
    {"application/cbor-seq", 63},
    {"application/cose;cose-type=\"cose-encrypt\"", 96},
    {"application/cose;cose-type=\"cose-mac\"", 97},
    {"application/cose;cose-type=\"cose-sign\"", 98},
    {"application/cose-key", 101},
    {"application/cose-key-set", 102},
    {"application/senml+json", 110},
    {"application/sensml+json", 111},
    {"application/senml+cbor", 112},
    {"application/sensml+cbor", 113},
    {"application/senml-exi", 114},
    {"application/sensml-exi", 115},
    {"application/yang-data+cbor;id=sid", 140},
    {"application/coap-group+json", 256},
    {"application/concise-problem-details+cbor", 257},
    {"application/swid+cbor", 258},
    {"application/dots+cbor", 271},
    {"application/missing-blocks+cbor-seq", 272},
    {"application/pkcs7-mime;smime-type=server-generated-key", 280},
    {"application/pkcs7-mime;smime-type=certs-only", 281},
    {"application/pkcs8", 284},
    {"application/csrattrs", 285},
    {"application/pkcs10", 286},
    {"application/pkix-cert", 287},
    {"application/aif+cbor", 290},
    {"application/aif+json", 291},
    {"application/senml+xml", 310},
    {"application/sensml+xml", 311},
    {"application/senml-etch+json", 320},
    {"application/senml-etch+cbor", 322},
    {"application/yang-data+cbor", 340},
    {"application/yang-data+cbor;id=name", 341},
    {"application/td+json", 432},
    {"application/tm+json", 433},
    {"application/vnd.ocf+cbor", 10000},
    {"application/oscore", 10001},
    {"application/javascript", 10002},
    {"application/vnd.oma.lwm2m+tlv", 11542},
    {"application/vnd.oma.lwm2m+json", 11543},
    {"application/vnd.oma.lwm2m+cbor", 11544},
    {"text/css", 20000},
    {"image/svg+xml", 30000},
};

/* Equal without regard to case and blanks. */
static bool same_media_type(const char *text, const char *name)
{
    for (;; text++, name++) {
        text += strspn(text, " ");
        if (tolower((unsigned char)*text) != *name)
            return false;
        if (!*name)
            return true;
    }
}

int value_content_format(const char *text, uint16_t *out)
{
    uint64_t number = 0;
    int err = value_count(text, &number);

    if (err == -ERANGE || number > UINT16_MAX)
        return -ERANGE;
    if (!err) {
        *out = (uint16_t)number;
        return 0;
    }
    for (size_t i = 0; i < sizeof(content_formats) / sizeof(content_formats[0]); i++) {
        if (same_media_type(text, content_formats[i].name)) {
            *out = content_formats[i].number;
            return 0;
        }
    }
    return -EINVAL;
}

/* ---- names, paths, hosts ---- */

bool value_is_word(const char *text, const char *others, size_t max)
{
    size_t length = strlen(text);

    if (length < 1 || length > max)
        return false;
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_-", *p) && !strchr(others, *p))
            return false;
    return true;
}

/* pchar of RFC 3986 3.3, escapes apart. */
static bool is_path_character(unsigned char c)
{
    return c < 0x80 && c != 0 && (isalnum(c) || strchr("-._~!$&'()*+,;=:@", c));
}

/* The byte that stands at *text, which moves behind it; a negative verdict when there is none. */
static int path_byte(const char **text)
{
    int high, low;

    if (**text != '%') {
        unsigned char c = (unsigned char)*(*text)++;

        return is_path_character(c) ? c : -PATH_CHARACTER;
    }
    high = hex_digit((*text)[1]);
    low = high < 0 ? -1 : hex_digit((*text)[2]);
    if (low < 0)
        return -PATH_ESCAPE;
    *text += 3;
    return high << 4 | low;
}

static char *write_path_byte(char *out, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";

    if (is_path_character(c)) {
        *out++ = (char)c;
        return out;
    }
    *out++ = '%';
    *out++ = digits[c >> 4];
    *out++ = digits[c & 15];
    return out;
}

/* One segment, up to the next slash or the end. */
static enum path_verdict path_segment(const char **text, char **out)
{
    const char *start = *out;
    size_t length = 0;

    for (; **text && **text != '/'; length++) {
        int byte = path_byte(text);

        if (byte < 0)
            return (enum path_verdict) - byte;
        *out = write_path_byte(*out, (unsigned char)byte);
    }
    if (length == 0)
        return PATH_EMPTY_SEGMENT;
    if (length > 255)
        return PATH_LONG_SEGMENT;
    if (start[0] == '.' && (length == 1 || (length == 2 && start[1] == '.')))
        return PATH_DOT_SEGMENT;
    return PATH_OK;
}

enum path_verdict value_path(const char *text, char *out)
{
    if (*text != '/')
        return PATH_NO_SLASH;
    if (!text[1])
        *out++ = '/';
    while (text[0] == '/' && text[1]) {
        enum path_verdict verdict;

        text++;
        *out++ = '/';
        verdict = path_segment(&text, &out);
        if (verdict != PATH_OK)
            return verdict;
    }
    *out = '\0';
    return PATH_OK;
}

static int bracketed_host(const char *text, size_t length, char *out)
{
    struct address address;
    char inner[ENDPOINT_TEXT_BYTES];

    if (length < 2 || text[length - 1] != ']' || length - 2 >= sizeof(inner))
        return -EINVAL;
    memcpy(inner, text + 1, length - 2);
    inner[length - 2] = '\0';
    if (address_parse(inner, &address) < 0 || !strchr(inner, ':'))
        return -EINVAL;
    address_format(&address, out);
    return 0;
}

int value_host(const char *text, char *out)
{
    size_t length = strlen(text);
    struct address address;

    if (length >= VALUE_HOST_BYTES)
        return -EINVAL;
    if (text[0] == '[')
        return bracketed_host(text, length, out);
    if (address_parse(text, &address) == 0) {
        address_format(&address, out);
        return 0;
    }
    if (!value_is_word(text, ".~", VALUE_HOST_BYTES - 1))
        return -EINVAL;
    for (size_t i = 0; i <= length; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    return 0;
}

/* The length of the label at `text`, 0 when it is none. */
static size_t label_length(const char *text)
{
    size_t length = 0;

    while (isalnum((unsigned char)text[length]) || text[length] == '-' || text[length] == '_')
        length++;
    return length > 63 ? 0 : length;
}

int value_domain(const char *text, char *out)
{
    size_t length = 0;
    const char *label = text;

    if (strlen(text) > 253)
        return -EINVAL;
    for (;; label += length + 1) {
        length = label_length(label);
        if (length == 0 || (label[length] != '.' && label[length] != '\0'))
            return -EINVAL;
        if (label[length] == '\0')
            break;
    }
    if (strspn(label, "0123456789") == length)
        return -EINVAL;
    while (*text)
        *out++ = (char)tolower((unsigned char)*text++);
    *out = '\0';
    return 0;
}

static int read_port(const char *text, uint16_t *out)
{
    uint64_t port;
    int err = value_count(text, &port);

    if (err || port < 1 || port > UINT16_MAX)
        return -EINVAL;
    *out = (uint16_t)port;
    return 0;
}

int value_endpoint(const char *text, struct endpoint *out)
{
    bool bracket = text[0] == '[';
    const char *end = bracket ? strchr(text, ']') : strchr(text, ':');
    char address[ENDPOINT_TEXT_BYTES];
    size_t length;

    if (!bracket && (!end || strchr(end + 1, ':')))
        return address_parse(text, &out->address);
    text += bracket;
    length = end ? (size_t)(end - text) : sizeof(address);
    if (length >= sizeof(address))
        return -EINVAL;
    memcpy(address, text, length);
    address[length] = '\0';
    if (address_parse(address, &out->address) < 0 || bracket != (strchr(address, ':') != NULL))
        return -EINVAL;
    end += bracket;
    return !*end ? 0 : *end == ':' ? read_port(end + 1, &out->port) : -EINVAL;
}
