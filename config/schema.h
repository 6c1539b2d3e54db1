/* The configuration as libcyaml reads it: texts and lists as they stand in the file.
 *
 * The tables behind config_schema are the one list of keys there is. Scalars stay texts here, so
 * that whoever checks them can quote what was written; NULL means that a key is absent. */
#ifndef COAPGW_CONFIG_SCHEMA_H
#define COAPGW_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include <cyaml/cyaml.h>

#include "config/config.h"
#include "config/place.h"

struct raw_memory {
    enum config_huge_pages huge_pages;
    char *size;
};

struct raw_interface {
    char *name, *device, *mac;
    char **addresses;
    unsigned addresses_count;
    char *gateway, *gateway6;
    char **host_addresses;
    unsigned host_addresses_count;
    char *vlan, *mtu, *queues, *rx_descriptors, *tx_descriptors;
};

struct raw_transmission {
    char *ack_timeout, *ack_random_factor, *max_retransmit, *nstart, *default_leisure;
    char *probing_rate;
};

struct raw_psk {
    char *file, *hint;
    bool *store;
};

struct raw_dtls_listener {
    struct raw_psk *psk;
    char *certificate, *key;
    enum config_clients client_certificates;
    char *ca, *crl;
    char **names;
    unsigned names_count;
    char **suites;
    unsigned suites_count;
    bool *tickets, *connection_id;
};

struct raw_listener {
    char *uri, *block_size, *keepalive;
    bool *multicast;
    struct raw_transmission *transmission;
    struct raw_dtls_listener *dtls;
};

struct raw_dtls_upstream {
    char *identity, *key_file, *certificate, *key, *ca, *crl, *name;
    char **suites;
    unsigned suites_count;
    bool *connection_id;
};

struct raw_tell {
    char *query, *option;
};

struct raw_upstream {
    char *name;
    char **servers;
    unsigned servers_count;
    enum config_balance balance;
    bool *reliable;
    char *timeout, *ports, *block_size, *retries, *max_outstanding, *keepalive, *revive;
    struct raw_transmission *transmission;
    struct raw_dtls_upstream *dtls;
    struct raw_tell *tell_client;
};

struct raw_forward {
    char **allow;
    unsigned allow_count;
    char **dns_servers;
    unsigned dns_servers_count;
    struct raw_upstream upstream; /* without name, servers and what only servers need */
};

struct raw_respond {
    char *payload, *content_format, *max_age;
};

struct raw_resources {
    bool *create;
    char *max, *size;
    char **formats;
    unsigned formats_count;
};

struct raw_module {
    char *file, *options;
};

struct raw_route {
    char *host, *path, *to;
    bool *strip;
    struct raw_respond *respond;
    struct raw_resources *resources;
    struct raw_module *module;
    char **allow;
    unsigned allow_count;
};

struct raw_ports {
    char *base, *per_worker;
};

struct raw_limits {
    char *sessions, *session_idle, *exchanges, *outbound, *queue, *remembered, *message_memory;
    char *token, *body, *assembly_memory, *transfers, *transfer_idle, *observations, *relations;
    char *client_requests, *client_relations, *destinations, *amplification;
    char *parameter_sets, *async, *module_slow, *associations, *handshakes;
};

struct raw_cache {
    char *size, *stale_if_error;
};

struct raw_observe {
    char *confirm_every, *confirm_after;
};

enum raw_on_failure { RAW_SERVE, RAW_REJECT };

struct raw_store {
    char *url, *username, *password_file, *prefix, *service, *timeout;
    enum raw_on_failure on_failure;
    char *save_freq, *resume_spread;
};

struct raw_journal {
    char *directory;
};

struct raw_admin {
    char *listen;
};

struct raw_security {
    char *idle, *handshake_budget, *persist_key_file;
};

struct raw_debug {
    char *packet_loss;
};

struct raw_config {
    char *instance, *workers, *cores;
    enum config_idle idle;
    struct raw_memory memory;
    struct raw_interface *interfaces;
    unsigned interfaces_count;
    struct raw_listener *listeners;
    unsigned listeners_count;
    struct raw_upstream *upstreams;
    unsigned upstreams_count;
    struct raw_route *routes;
    unsigned routes_count;
    struct raw_forward *forward_proxy;
    struct raw_cache cache;
    struct raw_observe observe;
    struct raw_transmission transmission;
    char *separate_after, *keepalive;
    struct raw_store *store; /* NULL when it is "none", too */
    struct raw_journal *journal;
    struct raw_admin *admin;
    struct raw_security security;
    struct raw_debug debug;
    struct raw_ports upstream_ports;
    struct raw_limits limits;
};

extern const cyaml_schema_value_t config_schema;

/* A flag of keys at the top: in the place of the mapping there may be the word "none". */
#define SCHEMA_OR_NONE (1u << 30)

/* Loads what schema_check() has passed; `root` is the document that it has seen. NULL with an error
 * reported: what libcyaml says, with the line that it names. To be freed with schema_free(). */
struct raw_config *schema_load(const char *text, size_t length, const struct node *root,
                               struct report *report);
void schema_free(struct raw_config *raw);

/* Checks the structure of a document against the same tables: unknown, duplicate and missing keys,
 * wrong types, wrong words, lists too short or too long. Reports all there is. */
void schema_check(const struct place *root);

#endif
