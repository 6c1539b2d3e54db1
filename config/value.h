/* Texts of single values to numbers: durations, sizes, addresses, lists of cores, paths.
 *
 * Pure functions; any thread. They return 0 or a negative errno and report nothing: what is wrong
 * in which place is said by quantity.h and the readers of each part. Texts are whole: leading or
 * trailing blanks are malformed. */
#ifndef COAPGW_CONFIG_VALUE_H
#define COAPGW_CONFIG_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

/* "65536": decimal digits only. -EINVAL, or -ERANGE beyond 64 bits. */
int value_count(const char *text, uint64_t *out);

/* "1.5s" in microseconds: us, ms, s, m, h; "0" needs no unit. -EINVAL, also for a fraction of a
 * microsecond; -ERANGE beyond 64 bits. */
int value_duration(const char *text, uint64_t *us);

/* "64MiB" in bytes: B, kB, KB, MB, GB (powers of 1000), KiB, MiB, GiB; "0" needs no unit. Errors as
 * value_duration(). */
int value_size(const char *text, uint64_t *bytes);

/* "1.5" in thousandths: at most three places. Errors as value_duration(). */
int value_milli(const char *text, uint64_t *out);

/* "02:00:00:00:00:01". -EINVAL. */
int value_mac(const char *text, uint8_t mac[6]);

/* "10.99.0.2/24". -EINVAL; -ENOENT when the prefix is missing, -ERANGE when it is above 32 or
 * 128; the address is set for the latter two. */
int value_prefix(const char *text, struct config_address *out);

/* "2-5,7" in the order written. -EINVAL; -ERANGE for a core above `core_max`; -EEXIST for one named
 * twice; -E2BIG for more than `room`. */
int value_cores(const char *text, uint16_t core_max, uint16_t *cores, unsigned room,
                unsigned *count);

/* "60" or "application/cbor" to a number of the IANA registry "CoAP Content-Formats". -EINVAL for
 * an unknown name, -ERANGE for a number above 65,535. */
int value_content_format(const char *text, uint16_t *out);

/* "[A-Za-z0-9_-]" and the characters of `others`, 1 to `max` of them. */
bool value_is_word(const char *text, const char *others, size_t max);

enum path_verdict {
    PATH_OK,
    PATH_NO_SLASH,      /* does not start with one */
    PATH_ESCAPE,        /* a % without two hexadecimal digits */
    PATH_CHARACTER,     /* one that has to be escaped (RFC 3986 3.3) */
    PATH_EMPTY_SEGMENT, /* two slashes in a row */
    PATH_DOT_SEGMENT,   /* "." or "..", which Uri-Path must not be (RFC 7252 5.10.1) */
    PATH_LONG_SEGMENT,  /* above 255 bytes: no Uri-Path holds it */
};

/* Writes the one spelling that all spellings of a path share: escapes only where RFC 7252 6.5 wants
 * them, in upper case, no slash at the end but for "/". `out` has room for strlen(text) + 1: a
 * canonical path is never longer. */
enum path_verdict value_path(const char *text, char *out);

/* Lower case, IP literals without brackets and as address_format() writes them, as the router
 * compares them. `out` has room for VALUE_HOST_BYTES. -EINVAL when it is no host. */
#define VALUE_HOST_BYTES 256
int value_host(const char *text, char *out);

/* A name that the DNS can have, in lower case: labels of 1 to 63 letters, digits, _ and -, at most
 * 253 bytes, the last label not a number, so that no address that was mistyped becomes a name.
 * -EINVAL. `out` has room for VALUE_HOST_BYTES. */
int value_domain(const char *text, char *out);

/* "10.0.0.53", "10.0.0.53:53", "fd00::53", "[fd00::53]" or "[fd00::53]:53"; the port is left alone
 * when there is none. -EINVAL, also for port 0. */
int value_endpoint(const char *text, struct endpoint *out);

#endif
