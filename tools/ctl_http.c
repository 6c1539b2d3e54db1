#include "tools/ctl_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#define CONNECT_TIMEOUT_S 5L
#define TIMEOUT_S         30L
#define REPLY_BYTES_MAX   (64u << 20)

static void say(const char *what, const char *why)
{
    fprintf(stderr, "coapgwctl: %s: %s\n", what, why);
}

bool http_open(struct http *http, const char *server)
{
    const char *colon = strrchr(server, ':');

    http->server = server;
    http->curl = NULL;
    if (!colon || colon == server || !colon[1] ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) || strpbrk(server, "/?#@ \\")) {
        say(server, "not HOST:PORT, as 127.0.0.1:9683 or [::1]:9683");
        return false;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || !(http->curl = curl_easy_init())) {
        say(server, "out of memory");
        return false;
    }
    return true;
}

void http_close(struct http *http)
{
    curl_easy_cleanup(http->curl);
    curl_global_cleanup();
}

static size_t take(char *bytes, size_t size, size_t count, void *context)
{
    struct http_reply *reply = context;
    const size_t length = size * count;
    char *text = length < REPLY_BYTES_MAX - reply->length
                     ? realloc(reply->text, reply->length + length + 1)
                     : NULL;

    if (!text)
        return 0;
    memcpy(text + reply->length, bytes, length);
    reply->text = text;
    reply->length += length;
    text[reply->length] = 0;
    return length;
}

static void prepare(struct http *http, const char *method, const char *body,
                    struct http_reply *reply, char *why)
{
    CURL *curl = http->curl;

    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"); /* it is this machine, or a neighbour */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "coapgwctl/" COAPGW_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
}

bool http_ask(struct http *http, const char *method, const char *path, const char *type,
              const char *body, struct http_reply *reply)
{
    char url[1024], header[128], why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    CURLcode code;

    *reply = (struct http_reply){.text = calloc(1, 1)};
    if (snprintf(url, sizeof(url), "http://%s%s", http->server, path) >= (int)sizeof(url)) {
        say(http->server, "the request is too long");
        free(reply->text);
        return false;
    }
    prepare(http, method, body, reply, why);
    curl_easy_setopt(http->curl, CURLOPT_URL, url);
    if (type) {
        snprintf(header, sizeof(header), "Content-Type: %s", type);
        headers = curl_slist_append(NULL, header);
        curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
    }
    code = curl_easy_perform(http->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        say(http->server, why[0] ? why : curl_easy_strerror(code));
        free(reply->text);
        return false;
    }
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &reply->status);
    return true;
}

json_t *http_ask_json(struct http *http, const char *method, const char *path, const char *type,
                      const char *body, bool busy_too)
{
    struct http_reply reply;
    const char *error;
    json_t *value;

    if (!http_ask(http, method, path, type, body, &reply))
        return NULL;
    value = json_loadb(reply.text, reply.length, 0, NULL);
    free(reply.text);
    if (!value) {
        say(http->server, "it does not answer as a coapgw does");
        return NULL;
    }
    if (reply.status < 300 || (reply.status == 503 && busy_too))
        return value;
    error = json_string_value(json_object_get(value, "error"));
    fprintf(stderr, "coapgwctl: %s (status %ld)\n", error ? error : "refused", reply.status);
    json_decref(value);
    return NULL;
}

void http_escape(struct http *http, const char *text, char *out, size_t room)
{
    char *escaped = curl_easy_escape(http->curl, text, 0);

    snprintf(out, room, "%s", escaped ? escaped : "");
    curl_free(escaped);
}
