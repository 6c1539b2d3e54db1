#include "gateway/control/control.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void signal_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
}

int control_block_signals(void)
{
    sigset_t set;
    int err;

    signal(SIGPIPE, SIG_IGN);
    signal_set(&set);
    err = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (err)
        fprintf(stderr, "coapgw: signals cannot be blocked: %s\n", strerror(err));
    return -err;
}

/* sd_notify(3): one datagram to the socket that systemd names; '@' stands for an abstract one. */
static void notify(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    int fd;

    if (length < 2 || length >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, length);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), 0, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void control_ready(const struct config *config)
{
    fprintf(stderr, "coapgw: ready: %u worker%s", config->workers, config->workers > 1 ? "s" : "");
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        char text[ENDPOINT_TEXT_BYTES];

        fprintf(stderr, " %s://%s", l->transport == TRANSPORT_DTLS ? "coaps" : "coap",
                endpoint_format(&config->locals[l->local].address, l->port, text));
    }
    fputc('\n', stderr);
    notify("READY=1");
}

void control_run(const struct control_ops *ops)
{
    const struct timespec second = {.tv_sec = 1};
    sigset_t set;

    signal_set(&set);
    for (;;) {
        int signal_number = sigtimedwait(&set, NULL, &second);

        if (signal_number == SIGTERM || signal_number == SIGINT) {
            notify("STOPPING=1");
            return;
        }
        if (signal_number == SIGUSR1)
            ops->print(ops->context, stderr);
        if (signal_number == SIGHUP && ops->reload)
            ops->reload(ops->context);
        else if (signal_number == SIGHUP)
            fputs("coapgw: this version cannot reload its configuration: restart it\n", stderr);
        ops->tick(ops->context);
    }
}
