/* The file is read as a whole, and its lines are turned into entries where they stand: an entry is
 * never longer than its line, so that no other memory ever holds keys, and what is left over is
 * wiped and given back. (It is not mapped: a file that somebody makes shorter meanwhile would end
 * the process.) An open hash table of the entries' positions finds them; its seed is random, so
 * that nobody can choose identities that fall into one place. */
#include "gateway/security/psk.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "gateway/hash.h"

/* "hex:", an identity and a key in hexadecimal digits, two colons, or everything in quotes and
 * escaped: what is longer is wrong in any case. */
#define LINE_BYTES 1024

#define FILE_MAX     (UINT64_C(4) << 30) /* positions have 32 bits */
#define ERRORS_MAX   20
#define WARNINGS_MAX 5

struct entry {
    uint8_t identity_length, key_length;
    uint8_t bytes[]; /* the identity, then the key */
};

struct psk_table {
    uint8_t *entries;
    size_t used, mapped;
    uint32_t *slots; /* position + 1; 0: free */
    uint64_t mask;
    uint64_t seed;
    uint32_t count;
};

/* What is only there while a file is read. */
struct reader {
    struct psk_table *table;
    FILE *errors;
    const char *file;
    uint32_t *lines; /* of each slot */
    uint32_t line, shorts;
    unsigned wrong;
};

/* ---- the table ---- */

/* Memory of its own: what is not touched costs nothing, and what is freed is gone. */
static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, bytes, MADV_DONTDUMP); /* keys are no part of a core file */
    return memory;
}

void psk_free(struct psk_table *table)
{
    if (!table)
        return;
    if (table->entries) {
        explicit_bzero(table->entries, table->used);
        munmap(table->entries, table->mapped);
    }
    free(table->slots);
    free(table);
}

static const struct entry *entry_at(const struct psk_table *table, uint32_t slot)
{
    return (const struct entry *)(const void *)(table->entries + slot - 1);
}

/* The slot of an identity, or the free one where it would be. There always is a free one. */
static uint64_t find_slot(const struct psk_table *table, const uint8_t *identity, size_t length)
{
    uint64_t at = hash_bytes(identity, length, table->seed) & table->mask;

    for (; table->slots[at]; at = (at + 1) & table->mask) {
        const struct entry *entry = entry_at(table, table->slots[at]);

        if (entry->identity_length == length && memcmp(entry->bytes, identity, length) == 0)
            break;
    }
    return at;
}

int psk_find(const struct psk_table *table, const uint8_t *identity, size_t length,
             uint8_t key[PSK_KEY_MAX])
{
    const struct entry *entry;
    uint64_t at;

    if (!table || length == 0 || length > PSK_IDENTITY_MAX)
        return -ENOENT;
    at = find_slot(table, identity, length);
    if (!table->slots[at])
        return -ENOENT;
    entry = entry_at(table, table->slots[at]);
    memcpy(key, entry->bytes + length, entry->key_length);
    return entry->key_length;
}

uint32_t psk_count(const struct psk_table *table)
{
    return table ? table->count : 0;
}

size_t psk_bytes(const struct psk_table *table)
{
    return table ? sizeof(*table) + table->used + (table->mask + 1) * sizeof(*table->slots) : 0;
}

void psk_digest(const struct psk_table *table, uint8_t digest[32])
{
    static const uint8_t nothing[1];

    EVP_Digest(table ? table->entries : nothing, table ? table->used : 0, digest, NULL,
               EVP_sha256(), NULL);
}

/* ---- lines ---- */

static bool wrong(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Always false. */
static bool wrong(struct reader *r, const char *format, ...)
{
    va_list arguments;

    if (r->wrong++ >= ERRORS_MAX)
        return false;
    fprintf(r->errors, "%s:%" PRIu32 ": ", r->file, r->line);
    va_start(arguments, format);
    vfprintf(r->errors, format, arguments);
    va_end(arguments);
    fputc('\n', r->errors);
    return false;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -EINVAL when these are no pairs of digits, or more than `room` or none of them. */
static int parse_hex(const char *hex, size_t length, uint8_t *out, size_t room)
{
    if (length == 0 || length % 2 || length / 2 > room)
        return -EINVAL;
    for (size_t i = 0; i < length; i += 2) {
        int high = digit(hex[i]), low = digit(hex[i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    return (int)(length / 2);
}

int psk_parse_key(const char *hex, size_t length, uint8_t key[PSK_KEY_MAX])
{
    return parse_hex(hex, length, key, PSK_KEY_MAX);
}

/* The text in quotes, which may have \" and \\; *end stands behind them. -EINVAL. */
static int parse_quoted(const char *text, const char *end_of_line, const char **end,
                        uint8_t out[PSK_IDENTITY_MAX])
{
    size_t length = 0;

    for (text++; text < end_of_line && *text != '"'; text++) {
        if (*text == '\\') {
            if (++text == end_of_line || (*text != '"' && *text != '\\'))
                return -EINVAL;
        }
        if (length == PSK_IDENTITY_MAX)
            return -EMSGSIZE;
        out[length++] = (uint8_t)*text;
    }
    if (text == end_of_line)
        return -EINVAL;
    *end = text + 1;
    return (int)length;
}

/* The identity at the start of a line, up to the colon in front of the key. */
static int parse_identity(const char *text, const char *colon, uint8_t out[PSK_IDENTITY_MAX])
{
    size_t length = (size_t)(colon - text);
    const char *end;
    int n;

    if (text[0] == '"') {
        n = parse_quoted(text, colon, &end, out);
        return n >= 0 && end != colon ? -EINVAL : n;
    }
    if (length >= 4 && memcmp(text, "hex:", 4) == 0)
        return length - 4 > 2 * PSK_IDENTITY_MAX
                   ? -EMSGSIZE
                   : parse_hex(text + 4, length - 4, out, PSK_IDENTITY_MAX);
    if (length > PSK_IDENTITY_MAX)
        return -EMSGSIZE;
    memcpy(out, text, length);
    return (int)length;
}

static bool check_identity(struct reader *r, const char *text, const uint8_t *identity, int length)
{
    if (length == -EMSGSIZE)
        return wrong(r, "the identity has more than %d bytes; write a shorter one",
                     PSK_IDENTITY_MAX);
    if (length < 0)
        return wrong(r, "the identity is %s; write %s",
                     text[0] == '"' ? "not one text in quotes" : "not hexadecimal",
                     text[0] == '"' ? "\"...\" with \\\" and \\\\ for quotes and backslashes in it"
                                    : "pairs of digits behind hex:, or put it in quotes");
    if (length == 0)
        return wrong(r, "the identity is empty; write IDENTITY:HEXKEY");
    if (memchr(identity, 0, (size_t)length))
        return wrong(r, "the identity has a zero byte, which OpenSSL cannot have; write another "
                        "one");
    return true;
}

static bool add(struct reader *r, const uint8_t *identity, int length, const uint8_t *key,
                int key_length)
{
    struct psk_table *table = r->table;
    uint64_t at = find_slot(table, identity, (size_t)length);
    size_t bytes = sizeof(struct entry) + (size_t)length + (size_t)key_length;
    uint8_t *entry = table->entries + table->used;

    if (table->slots[at])
        return wrong(r, "this identity is also on line %" PRIu32 "; remove one of them",
                     r->lines[at]);
    entry[0] = (uint8_t)length;
    entry[1] = (uint8_t)key_length;
    memcpy(entry + sizeof(struct entry), identity, (size_t)length);
    memcpy(entry + sizeof(struct entry) + length, key, (size_t)key_length);
    table->slots[at] = (uint32_t)table->used + 1;
    r->lines[at] = r->line;
    table->used += bytes;
    table->count++;
    return true;
}

static void warn_of_short(struct reader *r, int key_length)
{
    if (key_length >= PSK_KEY_SHORT || r->shorts++ >= WARNINGS_MAX)
        return;
    fprintf(r->errors, "%s:%" PRIu32 ": warning: the key has only %d bytes; write at least %d\n",
            r->file, r->line, key_length, PSK_KEY_SHORT);
}

static bool read_entry(struct reader *r, const char *text, size_t length)
{
    uint8_t identity[PSK_IDENTITY_MAX], key[PSK_KEY_MAX];
    const char *colon = memrchr(text, ':', length);
    int identity_length, key_length;
    bool good;

    if (!colon)
        return wrong(r, "there is no colon; write IDENTITY:HEXKEY");
    identity_length = parse_identity(text, colon, identity);
    if (!check_identity(r, text, identity, identity_length))
        return false;
    key_length = psk_parse_key(colon + 1, (size_t)(text + length - colon) - 1, key);
    if (key_length < 0)
        return wrong(r,
                     "what follows the last colon is no key; write 1 to %d bytes as pairs of "
                     "hexadecimal digits",
                     PSK_KEY_MAX);
    warn_of_short(r, key_length);
    good = add(r, identity, identity_length, key, key_length);
    explicit_bzero(key, sizeof(key));
    return good;
}

static void read_line(struct reader *r, const char *text, size_t length)
{
    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    while (length && isspace((unsigned char)*text)) {
        text++;
        length--;
    }
    if (length == 0 || text[0] == '#')
        return;
    if (memchr(text, 0, length))
        wrong(r, "there is a zero byte; write a text file");
    else
        read_entry(r, text, length);
}

/* ---- the file ---- */

static void cannot(struct reader *r, const char *what, int err)
{
    r->wrong++;
    fprintf(r->errors, "%s: cannot be %s (%s); name a file that can be read\n", r->file, what,
            strerror(err));
}

/* -1: said. */
static int open_file(struct reader *r, size_t *bytes)
{
    int fd = open(r->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0) {
        cannot(r, "opened", errno);
        return -1;
    }
    *bytes = 0;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        fprintf(r->errors, "%s: is not a regular file; name one\n", r->file);
    else if (status.st_mode & (S_IROTH | S_IWOTH))
        fprintf(r->errors,
                "%s: is open to everybody on this machine; take that away with chmod o=\n",
                r->file);
    else if ((uint64_t)status.st_size >= FILE_MAX)
        fprintf(r->errors, "%s: has 4 GiB or more; write a smaller one\n", r->file);
    else {
        *bytes = (size_t)status.st_size;
        return fd;
    }
    r->wrong++;
    close(fd);
    return -1;
}

/* One byte more is asked for than there should be. */
static int read_text(struct reader *r, int fd, size_t bytes)
{
    struct psk_table *table = r->table;
    size_t length = 0;
    ssize_t n;

    table->mapped = bytes + 1;
    table->entries = map(table->mapped);
    if (!table->entries)
        return -ENOMEM;
    do {
        n = read(fd, table->entries + length, table->mapped - length);
        if (n > 0)
            length += (size_t)n;
    } while ((n > 0 && length <= bytes) || (n < 0 && errno == EINTR));
    table->used = length; /* to be wiped */
    return n < 0 ? -errno : length == bytes ? 0 : -EAGAIN;
}

static uint64_t count_lines(const char *text, size_t bytes)
{
    uint64_t lines = 1;

    for (const char *end; bytes && (end = memchr(text, '\n', bytes)); text = end + 1, lines++)
        bytes -= (size_t)(end + 1 - text);
    return lines;
}

static int make_slots(struct reader *r, uint64_t lines)
{
    struct psk_table *table = r->table;
    uint64_t slots = 16;

    while (slots < lines * 2)
        slots *= 2;
    table->mask = slots - 1;
    table->slots = calloc(slots, sizeof(*table->slots));
    r->lines = malloc(slots * sizeof(*r->lines));
    if (!table->slots || !r->lines)
        return -ENOMEM;
    return getrandom(&table->seed, sizeof(table->seed), 0) == (ssize_t)sizeof(table->seed) ? 0
                                                                                           : -EIO;
}

static void read_lines(struct reader *r, const char *text, size_t bytes)
{
    while (bytes) {
        const char *end = memchr(text, '\n', bytes);
        size_t length = end ? (size_t)(end - text) : bytes, whole = length + (end != NULL);

        r->line++;
        if (length > LINE_BYTES)
            wrong(r, "has more than %d bytes; write IDENTITY:HEXKEY", LINE_BYTES);
        else
            read_line(r, text, length);
        text += whole;
        bytes -= whole;
    }
}

/* Wipes what was text and is no entry, and gives the pages behind the entries back. */
static void give_back(struct psk_table *table, size_t text_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), keep = (table->used + page) / page * page;

    explicit_bzero(table->entries + table->used, text_bytes - table->used);
    if (keep < table->mapped && munmap(table->entries + keep, table->mapped - keep) == 0)
        table->mapped = keep;
}

static void read_file(struct reader *r)
{
    struct psk_table *table = r->table;
    size_t bytes;
    int fd = open_file(r, &bytes), err;

    if (fd < 0)
        return;
    err = read_text(r, fd, bytes);
    close(fd);
    if (!err)
        err = make_slots(r, count_lines((const char *)table->entries, bytes));
    if (err) {
        cannot(r, "read", -err);
        return;
    }
    table->used = 0;
    read_lines(r, (const char *)table->entries, bytes);
    give_back(table, bytes);
}

struct psk_table *psk_load(const char *file, FILE *errors)
{
    struct reader r = {.errors = errors, .file = file, .table = calloc(1, sizeof(*r.table))};

    if (!r.table) {
        cannot(&r, "loaded", ENOMEM);
        return NULL;
    }
    read_file(&r);
    free(r.lines);
    if (r.wrong > ERRORS_MAX)
        fprintf(errors, "%s: %u more lines are wrong\n", file, r.wrong - ERRORS_MAX);
    if (r.shorts > WARNINGS_MAX)
        fprintf(errors, "%s: warning: %" PRIu32 " more keys have fewer than %d bytes\n", file,
                r.shorts - WARNINGS_MAX, PSK_KEY_SHORT);
    if (r.wrong) {
        psk_free(r.table);
        return NULL;
    }
    return r.table;
}
