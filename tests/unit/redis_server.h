/* A Redis of the test's own: in a new folder, on a Unix socket there, and on 127.0.0.1 if asked
 * for. It ends with the test, however that ends. */
#ifndef COAPGW_TESTS_UNIT_REDIS_SERVER_H
#define COAPGW_TESTS_UNIT_REDIS_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#define REDIS_GIVE_UP_MS 60000

struct redis_server {
    char folder[64], socket[80];
    char port[8]; /* "0": none */
    const char *password;
    pid_t pid;
    redisContext *c; /* the test's own connection */
};

static inline void redis_nap(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

static inline void redis_connect(struct redis_server *r)
{
    for (unsigned ms = 0;; ms += 10) {
        assert_true(ms < REDIS_GIVE_UP_MS);
        r->c = redisConnectUnix(r->socket);
        if (r->c && !r->c->err) {
            redisReply *reply = r->password ? redisCommand(r->c, "AUTH %s", r->password)
                                            : redisCommand(r->c, "PING");
            bool good = reply && reply->type == REDIS_REPLY_STATUS;

            freeReplyObject(reply);
            if (good)
                return;
        }
        if (r->c)
            redisFree(r->c);
        redis_nap(10);
    }
}

/* Writes all at once to its file: what was confirmed is there after a kill -9. */
static inline void redis_run(struct redis_server *r)
{
    pid_t parent = getpid();

    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (chdir(r->folder) != 0)
            _exit(1);
        execlp("redis-server", "redis-server", "--port", r->port, "--bind", "127.0.0.1",
               "--unixsocket", r->socket, "--save", "", "--appendonly", "yes", "--appendfsync",
               "always", "--logfile", "log", "--daemonize", "no", "--databases", "4",
               r->password ? "--requirepass" : NULL, r->password, NULL);
        _exit(127);
    }
    redis_connect(r);
}

/* A port that was free a moment ago. */
static inline void redis_choose_port(char port[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    snprintf(port, 8, "%u", ntohs(address.sin_port));
}

static inline void redis_start(struct redis_server *r, bool tcp, const char *password)
{
    memset(r, 0, sizeof(*r));
    strcpy(r->folder, "/tmp/coapgw-redis-XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    snprintf(r->socket, sizeof(r->socket), "%s/socket", r->folder);
    strcpy(r->port, "0");
    r->password = password;
    if (tcp)
        redis_choose_port(r->port);
    redis_run(r);
}

static inline void redis_kill(struct redis_server *r)
{
    int status;

    if (r->c)
        redisFree(r->c);
    r->c = NULL;
    if (r->pid <= 0)
        return;
    kill(r->pid, SIGKILL);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    r->pid = 0;
}

static inline void redis_stop(struct redis_server *r)
{
    char command[128];

    redis_kill(r);
    snprintf(command, sizeof(command), "rm -r '%s'", r->folder);
    assert_int_equal(system(command), 0);
}

/* The answer has to be freed. */
static inline redisReply *redis_do(struct redis_server *r, const char *format, ...)
{
    va_list list;
    redisReply *reply;

    va_start(list, format);
    reply = redisvCommand(r->c, format, list);
    va_end(list);
    assert_non_null(reply);
    return reply;
}

static inline void redis_ok(struct redis_server *r, const char *format, ...)
{
    va_list list;
    redisReply *reply;

    va_start(list, format);
    reply = redisvCommand(r->c, format, list);
    va_end(list);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    freeReplyObject(reply);
}

static inline long long redis_number(struct redis_server *r, const char *format, ...)
{
    va_list list;
    redisReply *reply;
    long long number;

    va_start(list, format);
    reply = redisvCommand(r->c, format, list);
    va_end(list);
    assert_non_null(reply);
    number = reply->type == REDIS_REPLY_INTEGER ? reply->integer
             : reply->str                       ? atoll(reply->str)
                                                : -1;
    freeReplyObject(reply);
    return number;
}

#endif
