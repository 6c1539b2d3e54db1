#include "gateway/control/admin.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/control/admin_http.h"

#define BACKLOG           64
#define CONNECTIONS_MAX   64
#define CONNECTION_IDLE_S 10u
#define CONNECTION_BYTES  32768

static int fail(const struct config *config, int err)
{
    char text[ENDPOINT_TEXT_BYTES];

    endpoint_format(&config->admin.listen.address, config->admin.listen.port, text);
    fprintf(stderr, "coapgw: admin.listen: %s: %s%s\n", text, strerror(-err),
            err == -EADDRINUSE ? "; give another address, or write \"admin: none\"" : "");
    return err;
}

static bool is_loopback(const struct address *a)
{
    static const struct address one = {{[15] = 1}};

    return address_is_v4(a) ? a->bytes[12] == 127 : address_equal(a, &one);
}

/* ---- the socket ---- */

static socklen_t to_socket_address(const struct endpoint *e, struct sockaddr_storage *out)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(e->port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(e->port)};

    memset(out, 0, sizeof(*out));
    if (address_is_v4(&e->address)) {
        memcpy(&v4.sin_addr, e->address.bytes + 12, 4);
        memcpy(out, &v4, sizeof(v4));
        return sizeof(v4);
    }
    memcpy(&v6.sin6_addr, e->address.bytes, 16);
    memcpy(out, &v6, sizeof(v6));
    return sizeof(v6);
}

/* Listens already: with SO_REUSEADDR two sockets may be bound to one address, but only one of them
 * can listen. */
static int open_listener(struct admin *a)
{
    const int on = 1;
    struct sockaddr_storage address;
    socklen_t length = to_socket_address(&a->config->admin.listen, &address);

    a->listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->listener < 0)
        return -errno;
    setsockopt(a->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address.ss_family == AF_INET6)
        setsockopt(a->listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(a->listener, (struct sockaddr *)&address, length) != 0 ||
        listen(a->listener, BACKLOG) != 0)
        return -errno;
    return 0;
}

/* ---- start and end ---- */

struct admin *admin_create(const struct config *config)
{
    struct admin *a = calloc(1, sizeof(*a));
    int err;

    if (!a)
        return NULL;
    a->config = config;
    a->listener = -1;
    a->started_s = (uint64_t)time(NULL);
    a->loopback = is_loopback(&config->admin.listen.address);
    err = mail_init(&a->mail, config->workers);
    if (!err)
        err = open_listener(a);
    if (!err)
        return a;
    fail(config, err);
    admin_destroy(a);
    errno = -err;
    return NULL;
}

static void warn_if_open(const struct admin *a)
{
    char text[ENDPOINT_TEXT_BYTES];

    if (a->loopback)
        return;
    endpoint_format(&a->config->admin.listen.address, a->config->admin.listen.port, text);
    fprintf(stderr,
            "coapgw: admin.listen: %s is not loopback: whoever can reach it can see all sessions "
            "and change parameters; there is no access control\n",
            text);
}

int admin_start(struct admin *a, const struct admin_setup *setup)
{
    a->setup = *setup;
    a->mail.parcels = setup->parcels;
    a->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL,
                                 admin_handle, a, MHD_OPTION_LISTEN_SOCKET, a->listener,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                 MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_IDLE_S,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                                 MHD_OPTION_NOTIFY_COMPLETED, admin_completed, a, MHD_OPTION_END);
    if (!a->daemon)
        return fail(a->config, errno ? -errno : -EIO);
    a->listener = -1; /* the daemon's */
    warn_if_open(a);
    return 0;
}

void admin_stop(struct admin *a)
{
    if (!a || !a->daemon)
        return;
    atomic_store(&a->mail.closing, true);
    MHD_stop_daemon(a->daemon);
    a->daemon = NULL;
}

void admin_destroy(struct admin *a)
{
    if (!a)
        return;
    admin_stop(a);
    if (a->listener >= 0)
        close(a->listener);
    mail_fini(&a->mail);
    free(a);
}

bool admin_tell(void *context, unsigned worker, struct parcel *parcel)
{
    struct admin *a = context;

    return mail_tell(&a->mail, worker, parcel);
}

struct parcel *admin_take(void *context, unsigned worker)
{
    struct admin *a = context;

    return mail_take(&a->mail, worker);
}
