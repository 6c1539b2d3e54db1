/* Requests to a gateway's admin endpoint. One thread. */
#ifndef COAPGW_TOOLS_CTL_HTTP_H
#define COAPGW_TOOLS_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

struct http {
    void *curl;
    const char *server; /* HOST:PORT */
};

/* What came back; `text` is malloc()ed and ends with a zero. */
struct http_reply {
    long status;
    char *text;
    size_t length;
};

/* False with a word on stderr when `server` is no HOST:PORT or memory is short. */
bool http_open(struct http *http, const char *server);
void http_close(struct http *http);

/* Asks for a path, which may have a query. `body` of `type`, or NULL. False, with a word on stderr,
 * when there was no reply. */
bool http_ask(struct http *http, const char *method, const char *path, const char *type,
              const char *body, struct http_reply *reply);

/* The same with a JSON reply, which is to be released. NULL, with the gateway's words on stderr,
 * when its status is an error's; but 503 counts as a reply with `busy_too`. */
json_t *http_ask_json(struct http *http, const char *method, const char *path, const char *type,
                      const char *body, bool busy_too);

/* A text as it stands in a query, in `out`; what does not fit is cut. */
void http_escape(struct http *http, const char *text, char *out, size_t room);

#endif
