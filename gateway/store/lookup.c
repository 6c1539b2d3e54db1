#include "gateway/store/lookup.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lookup {
    atomic_int users; /* who asked, and the thread: the last one frees */
    atomic_bool done; /* `result` is complete */
    struct lookup_result result;
    char host[];
};

static void fill(struct lookup_result *r, const struct addrinfo *list)
{
    for (; list && r->count < LOOKUP_MAX; list = list->ai_next)
        if (getnameinfo(list->ai_addr, list->ai_addrlen, r->addresses[r->count], LOOKUP_TEXT_BYTES,
                        NULL, 0, NI_NUMERICHOST) == 0)
            r->count++;
    if (r->count == 0)
        snprintf(r->error, sizeof(r->error), "there is no address");
}

static void *ask(void *argument)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct lookup *lookup = argument;
    struct addrinfo *list = NULL;
    int status = getaddrinfo(lookup->host, NULL, &hints, &list);

    if (status)
        snprintf(lookup->result.error, sizeof(lookup->result.error), "%s", gai_strerror(status));
    else
        fill(&lookup->result, list);
    if (list)
        freeaddrinfo(list);
    atomic_store(&lookup->done, true);
    lookup_drop(lookup);
    return NULL;
}

/* Signals are for the main thread. */
static int start_detached(struct lookup *lookup)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int err = pthread_attr_init(&attributes);

    if (err)
        return err;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread, &attributes, ask, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return err;
}

struct lookup *lookup_start(const char *host)
{
    struct lookup *lookup = calloc(1, sizeof(*lookup) + strlen(host) + 1);
    int err;

    if (!lookup)
        return NULL;
    memcpy(lookup->host, host, strlen(host) + 1);
    atomic_store(&lookup->users, 2);
    err = start_detached(lookup);
    if (err) {
        free(lookup);
        errno = err;
        return NULL;
    }
    return lookup;
}

bool lookup_take(const struct lookup *lookup, struct lookup_result *result)
{
    if (!atomic_load(&lookup->done))
        return false;
    *result = lookup->result;
    return true;
}

void lookup_drop(struct lookup *lookup)
{
    if (lookup && atomic_fetch_sub(&lookup->users, 1) == 1)
        free(lookup);
}
