/* The store: where Redis is, who the gateway is there, and how long it waits for it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/loader.h"
#include "config/quantity.h"
#include "config/store_url.h"
#include "config/value.h"

#define COAP_PORT 5683

#define SECOND_US UINT64_C(1000000)

/* ---- user and password ---- */

#define LINE_BYTES (STORE_CREDENTIAL_MAX + 3) /* the line's end and the final zero */

/* A file that anything else than a text is at once: a FIFO is not waited for. */
static int open_password(const struct place *at, const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;

    if (fd < 0) {
        place_error(at, "cannot be opened (%s); name a file that can be read", strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        place_error(at, "is not a regular file; name one");
        close(fd);
        return -1;
    }
    return fd;
}

/* As much of the file as its first line may have. The number of bytes, negative: an error. */
static ssize_t read_start(int fd, char buffer[LINE_BYTES])
{
    size_t length = 0;
    ssize_t n;

    do {
        n = read(fd, buffer + length, LINE_BYTES - 1 - length);
        if (n > 0)
            length += (size_t)n;
    } while ((n > 0 && length < LINE_BYTES - 1) || (n < 0 && errno == EINTR));
    return n < 0 ? -1 : (ssize_t)length;
}

/* Cuts the first line out of `length` bytes; false when it is no password. */
static bool cut_line(const struct place *at, char *buffer, size_t length)
{
    char *end = memchr(buffer, '\n', length);
    size_t line = end ? (size_t)(end - buffer) : length;

    if (line && buffer[line - 1] == '\r')
        line--;
    buffer[line] = '\0';
    if (line == 0)
        place_error(at, "has an empty first line; write the password there");
    else if (line > STORE_CREDENTIAL_MAX)
        place_error(at, "has a first line of more than %d bytes; write a shorter password",
                    STORE_CREDENTIAL_MAX);
    else if (strlen(buffer) < line)
        place_error(at, "has a zero byte in its first line; write the password as text");
    else
        return true;
    return false;
}

/* The file's name is not shown: some write the password itself there. */
static void read_password(struct loader *l, const struct place *at, const char *file,
                          struct config_store *out)
{
    char buffer[LINE_BYTES] = "";
    ssize_t length;
    int fd;

    if (file[0] != '/') {
        place_error(at, "is not an absolute path; write the path of a file whose first line is "
                        "the password");
        return;
    }
    fd = open_password(at, file);
    if (fd < 0)
        return;
    length = read_start(fd, buffer);
    close(fd);
    if (length < 0)
        place_error(at, "cannot be read (%s); name a file that can be read", strerror(errno));
    else if (cut_line(at, buffer, (size_t)length))
        out->password = loader_text(l, buffer);
    explicit_bzero(buffer, sizeof(buffer));
}

/* What is not in the URL. */
static void read_credentials(struct loader *l, const struct place *store,
                             const struct raw_store *raw, struct config_store *out)
{
    struct place file = place_key(store, "password_file");

    if (raw->username && out->username)
        key_error(store, "username", "the url has a user, too; remove one of them");
    else if (raw->username && strlen(raw->username) > STORE_CREDENTIAL_MAX)
        key_error(store, "username", "has %zu bytes; write at most %d", strlen(raw->username),
                  STORE_CREDENTIAL_MAX);
    else if (raw->username)
        out->username = loader_text(l, raw->username);
    if (raw->password_file && out->password)
        place_error(&file, "the url has a password, too; remove one of them");
    else if (raw->password_file)
        read_password(l, &file, raw->password_file, out);
    else if (out->username && !out->password)
        key_error(store, raw->username ? "username" : "url",
                  "there is a user without a password; add password_file");
}

static void read_place(struct loader *l, const struct place *store, const struct raw_store *raw,
                       struct config_store *out)
{
    const char *wrong = store_url_take(raw->url, out);

    if (wrong)
        key_error(store, "url", "%s", wrong);
    else
        read_credentials(l, store, raw, out);
}

/* ---- keys ---- */

static void read_prefix(struct loader *l, const struct place *store, const char *text,
                        struct config_store *out)
{
    if (!text)
        text = "coapgw";
    if (!value_is_word(text, ".:", 64))
        key_error(store, "prefix",
                  "\"%.80s\" is no prefix; write 1 to 64 letters, digits, _, -, . or :", text);
    out->prefix = loader_text(l, text);
}

/* The first listener's: the one that is least likely to go. */
static struct endpoint first_listener(const struct config *config)
{
    struct endpoint endpoint = {.port = COAP_PORT};

    if (config->listener_count && config->listeners[0].local < config->local_count) {
        endpoint.address = config->locals[config->listeners[0].local].address;
        endpoint.port = config->listeners[0].port;
    }
    return endpoint;
}

/* In one spelling: two gateways that share a service find the same keys. */
static void read_service(struct loader *l, const struct place *store, const char *text,
                         struct config_store *out)
{
    struct place at = place_key(store, "service");
    struct endpoint service = first_listener(l->config);
    char spelled[ENDPOINT_TEXT_BYTES];

    if (text) {
        service.port = COAP_PORT;
        if (value_endpoint(text, &service) < 0)
            place_error(&at,
                        "\"%.80s\" is not an address and port; write ADDRESS:PORT, an IPv6 address "
                        "in brackets",
                        text);
        else
            address_is_usable(&at, text, &service.address);
    }
    out->service = loader_text(l, endpoint_format(&service.address, service.port, spelled));
}

void load_store(struct loader *l)
{
    static const struct quantity timeout = {"timeout", QUANTITY_TIME_MS, 10, 10000, 500};
    static const struct quantity save = {"save_freq", QUANTITY_COUNT, 1, 1000000, 10};
    static const struct quantity spread = {"resume_spread", QUANTITY_TIME_US, 0, 3600 * SECOND_US,
                                           10 * SECOND_US};
    static const struct raw_store none;
    const struct raw_store *raw = l->raw->store ? l->raw->store : &none;
    struct config_store *out = &l->config->store;
    struct place at = place_key(&l->root, "store");

    if (raw->url)
        read_place(l, &at, raw, out);
    read_prefix(l, &at, raw->prefix, out);
    read_service(l, &at, raw->service, out);
    out->timeout_ms = (uint32_t)quantity_read(&at, &timeout, raw->timeout);
    out->reject = raw->on_failure == RAW_REJECT;
    out->save_freq = (uint32_t)quantity_read(&at, &save, raw->save_freq);
    out->resume_spread_us = quantity_read(&at, &spread, raw->resume_spread);
}
