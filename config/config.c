#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/loader.h"

#define FILE_MAX (1u << 20) /* bytes */

/* ---- what the steps share ---- */

void *loader_array(struct loader *l, size_t count, size_t bytes)
{
    void *array = count ? calloc(count, bytes) : NULL;

    if (count && !array)
        report_error(l->report, 0, "file", "cannot be loaded: out of memory; free some");
    return array;
}

char *loader_text(struct loader *l, const char *text)
{
    char *copy = strdup(text ? text : "");

    if (!copy)
        report_error(l->report, 0, "file", "cannot be loaded: out of memory; free some");
    return copy;
}

/* ---- text to configuration ---- */

static void load_parts(struct loader *l)
{
    l->config->file = loader_text(l, l->report->file);
    load_transmission(l);
    load_process(l);
    load_limits(l);
    load_cache(l);
    load_observe(l);
    load_interfaces(l);
    load_listeners(l);
    load_upstreams(l);
    load_forward(l);
    load_routes(l);
    load_store(l);
    load_journal(l);
    load_admin(l);
    load_security(l);
    load_debug(l);
    load_lifetimes(l);
}

static struct config *load_checked(const struct raw_config *raw, const struct node *root,
                                   struct report *report)
{
    struct loader l = {.raw = raw, .report = report, .root = place_root(report, root)};

    l.config = loader_array(&l, 1, sizeof(*l.config));
    if (!l.config)
        return NULL;
    load_parts(&l);
    if (report->errors) {
        config_free(l.config);
        return NULL;
    }
    return l.config;
}

static struct config *load_document(const char *text, size_t length, const struct node *root,
                                    struct report *report)
{
    struct place at = place_root(report, root);
    struct raw_config *raw;
    struct config *config;

    schema_check(&at);
    if (report->errors)
        return NULL;
    raw = schema_load(text, length, root, report);
    if (!raw)
        return NULL;
    config = load_checked(raw, root, report);
    schema_free(raw);
    return config;
}

static struct config *load_text(const char *text, size_t length, struct report *report)
{
    struct config *config;
    struct node root;

    if (length > FILE_MAX) {
        report_error(report, 0, "file", "has more than %u bytes; write a smaller one", FILE_MAX);
        return NULL;
    }
    if (document_parse(text, length, report, &root) < 0)
        return NULL;
    config = load_document(text, length, &root, report);
    document_free(&root);
    return config;
}

struct config *config_load_text(const char *name, const char *text, size_t length, FILE *errors)
{
    struct report report = {.out = errors, .file = name};

    return load_text(text, length, &report);
}

/* ---- files ---- */

static int open_file(struct report *report)
{
    /* O_NONBLOCK: a FIFO is refused below instead of being waited for. */
    int fd = open(report->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;

    if (fd < 0) {
        report_error(report, 0, "file", "cannot be opened (%s); name a file that can be read",
                     strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        report_error(report, 0, "file", "is not a regular file; name one");
        close(fd);
        return -1;
    }
    return fd;
}

/* Up to one byte more than is allowed, so that load_text() notices. Negative: an error. */
static ssize_t read_all(int fd, char *buffer)
{
    size_t length = 0;
    ssize_t n;

    do {
        n = read(fd, buffer + length, FILE_MAX + 1 - length);
        if (n > 0)
            length += (size_t)n;
    } while ((n > 0 && length <= FILE_MAX) || (n < 0 && errno == EINTR));
    return n < 0 ? -1 : (ssize_t)length;
}

struct config *config_load(const char *file, FILE *errors)
{
    struct report report = {.out = errors, .file = file};
    struct config *config = NULL;
    int fd = open_file(&report);
    ssize_t length;
    char *buffer;

    if (fd < 0)
        return NULL;
    buffer = malloc(FILE_MAX + 1);
    length = buffer ? read_all(fd, buffer) : -1;
    if (length < 0)
        report_error(&report, 0, "file", "cannot be read (%s); name a file that can be read",
                     strerror(errno));
    else
        config = load_text(buffer, (size_t)length, &report);
    free(buffer);
    close(fd);
    return config;
}

/* ---- the end ---- */

static void free_interfaces(struct config *config)
{
    for (unsigned i = 0; i < config->interface_count; i++) {
        struct config_interface *interface = &config->interfaces[i];

        free(interface->name);
        free(interface->device_argument);
        free(interface->device_options);
        free(interface->addresses);
        free(interface->host_addresses);
    }
    free(config->interfaces);
}

static void free_routes(struct config *config)
{
    for (unsigned i = 0; i < config->route_count; i++) {
        free(config->routes[i].host);
        free(config->routes[i].path);
        free(config->routes[i].respond.payload);
        free(config->routes[i].resources.formats);
        free(config->routes[i].module.file);
        free(config->routes[i].module.options);
        for (unsigned j = 0; j < config->routes[i].allow_count; j++)
            free(config->routes[i].allow[j]);
        free(config->routes[i].allow);
    }
    free(config->routes);
}

static void free_forward(struct config_forward *forward)
{
    for (unsigned i = 0; i < forward->name_count; i++)
        free(forward->names[i]);
    free(forward->names);
    free(forward->networks);
    free(forward->dns_servers);
    free(forward->upstream.name);
    dtls_upstream_free(forward->upstream.dtls);
}

static void free_store(struct config_store *store)
{
    if (store->password)
        explicit_bzero(store->password, strlen(store->password));
    free(store->host);
    free(store->path);
    free(store->username);
    free(store->password);
    free(store->prefix);
    free(store->service);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    free_interfaces(config);
    for (unsigned i = 0; i < config->upstream_count; i++) {
        free(config->upstreams[i].name);
        free(config->upstreams[i].servers);
        free(config->upstreams[i].tell_query);
        dtls_upstream_free(config->upstreams[i].dtls);
    }
    free(config->upstreams);
    for (unsigned i = 0; i < config->listener_count; i++)
        dtls_listener_free(config->listeners[i].dtls);
    free_forward(&config->forward);
    free_routes(config);
    free_store(&config->store);
    explicit_bzero(config->security.persist_key, sizeof(config->security.persist_key));
    free(config->security.persist_key_file.path);
    free(config->journal.directory);
    free(config->listeners);
    free(config->locals);
    free(config->instance);
    free(config->file);
    free(config);
}
