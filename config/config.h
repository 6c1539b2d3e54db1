/* The configuration, checked and in its final units.
 *
 * config_load() reads a YAML file, checks every value and every reference between values, and fills
 * a struct config that the rest of the program can trust: there is no second check elsewhere. The
 * structure owns all it points to, is never changed after loading and is shared by all threads. */
#ifndef COAPGW_CONFIG_CONFIG_H
#define COAPGW_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gateway/net.h"
#include "gateway/session/loss.h"
#include "gateway/session/transmission.h"

#define CONFIG_WORKERS_MAX 64

enum config_idle {
    CONFIG_IDLE_ADAPTIVE, /* sleep when there is nothing to do, below 1 ms at a time */
    CONFIG_IDLE_SPIN,     /* poll without a pause */
};

enum config_huge_pages { CONFIG_HUGE_AUTO, CONFIG_HUGE_NEVER, CONFIG_HUGE_ALWAYS };

enum config_device {
    CONFIG_DEVICE_TAP,       /* tap:NAME */
    CONFIG_DEVICE_AF_XDP,    /* af_xdp:IF */
    CONFIG_DEVICE_AF_PACKET, /* af_packet:IF */
    CONFIG_DEVICE_MEMIF,     /* memif:SOCKET, the server end of it */
    CONFIG_DEVICE_PCI,       /* pci:ADDRESS */
    CONFIG_DEVICE_VDEV,      /* vdev:ARGS, as EAL's --vdev takes them */
};

struct config_address { /* "10.99.0.2/24" */
    struct address address;
    uint8_t prefix; /* bits of the family: 0-32 or 0-128 */
};

struct config_interface {
    char *name;
    enum config_device device;
    char *device_argument; /* behind the colon, for all but vdev: up to the first comma */
    char *device_options;  /* behind that comma, given to the driver as it is; or "" */
    bool mac_set;          /* false: the device's own, or a random local one */
    uint8_t mac[6];
    struct config_address *addresses;
    unsigned address_count;
    struct address gateway, gateway6; /* next hop outside the subnets */
    bool has_gateway, has_gateway6;
    struct config_address *host_addresses; /* tap: what the kernel's end gets */
    unsigned host_address_count;
    uint16_t vlan;   /* 802.1Q tag 1-4094; 0: untagged */
    uint16_t mtu;    /* bytes of an IP packet, 1280 to 1500 */
    uint16_t queues; /* 0: one for each worker, as far as the device has them */
    uint16_t rx_descriptors, tx_descriptors; /* a power of two, 64 to 4096 */
};

/* A file that others load, with the line of the configuration that names it. */
struct config_file {
    char *path; /* absolute; NULL: none */
    unsigned line;
};

enum config_clients {
    CONFIG_CLIENTS_NONE,     /* are not asked for a certificate */
    CONFIG_CLIENTS_OPTIONAL, /* may have one; one that is wrong is refused */
    CONFIG_CLIENTS_REQUIRED, /* must have one, unless they have a pre-shared key */
};

/* Cipher suites in the order of preference, by their IANA numbers: see
 * gateway/security/cipher_suite.h. Only those that the keys and certificates beside them can be
 * used with. */
struct config_suites {
    uint16_t *numbers;
    unsigned count;
};

/* What a coaps listener shows its clients, and takes from them. */
struct config_dtls_listener {
    unsigned line;  /* of the key dtls */
    bool psk;       /* there are pre-shared keys: in a file, in the store, or in both */
    bool psk_store; /* identities that are not in the file are asked of the store */
    struct config_file psk_file;
    char *psk_hint;                      /* for ServerKeyExchange (RFC 4279 5.2); "": none */
    struct config_file certificate, key; /* a chain, the own one first; both or none */
    enum config_clients clients;
    struct config_file ca, crl; /* whose certificates clients may have */
    char **names;               /* patterns: which names these may have */
    unsigned name_count;        /* 0: any */
    struct config_suites suites;
    bool tickets;       /* sessions are resumed (RFC 5077) */
    bool connection_id; /* RFC 9146, where the client offers it */
};

/* What an upstream's servers are shown, and how they are told from others. */
struct config_dtls_upstream {
    unsigned line;
    char *identity;                      /* NULL: no pre-shared key */
    struct config_file key_file;         /* of the identity: hexadecimal digits on its first line */
    struct config_file certificate, key; /* both or none */
    struct config_file ca, crl;          /* ca: what a server's certificate is checked against */
    char *name; /* that it must have, a domain name or an address; NULL: the server's address */
    struct config_suites suites;
    bool connection_id;
};

/* How an origin learns who the client is: nothing is told of a client without a name. */
enum config_tell { CONFIG_TELL_NONE, CONFIG_TELL_QUERY, CONFIG_TELL_OPTION };

struct config_listener {
    uint16_t local; /* index into config.locals */
    uint16_t port;
    enum transport transport;
    bool has_transmission;
    struct transmission transmission; /* of the listener, or the global one */
    uint8_t block_szx;                /* the largest block towards its clients: 0 to 6 */
    bool multicast;        /* answers requests to the all-CoAP-nodes groups (RFC 7252 12.8) */
    uint64_t keepalive_us; /* a client that has been silent so long is pinged; 0: never */
    struct config_dtls_listener *dtls; /* NULL but with TRANSPORT_DTLS */
};

struct config_server {
    struct endpoint endpoint;
    enum transport transport;
    uint16_t local; /* index into config.locals: the address from which it is reached */
};

enum config_balance { CONFIG_BALANCE_HASH, CONFIG_BALANCE_ROUND_ROBIN };

struct config_upstream {
    char *name;
    struct config_server *servers;
    unsigned server_count;
    enum config_balance balance;
    bool reliable;         /* CON towards the origin (default), or NON */
    uint32_t timeout_ms;   /* until 5.04; default: MAX_TRANSMIT_WAIT of `transmission` */
    uint16_t ports;        /* the most local ports (sessions) to one server from one worker */
    uint8_t block_szx;     /* the largest block towards its servers: 0 to 6 */
    uint8_t retries;       /* other servers that a safe request is given to when one fails */
    uint32_t outstanding;  /* requests at all its servers from one worker; more are answered 5.03 */
    uint64_t keepalive_us; /* a server that has been silent so long is pinged; 0: never */
    uint64_t revive_us;    /* how often a server that is down is pinged */
    struct transmission transmission;
    struct config_dtls_upstream *dtls; /* not NULL: all servers have TRANSPORT_DTLS */
    enum config_tell tell_client;
    char *tell_query;     /* NAME of Uri-Query NAME=CLIENT, as it stands in the option */
    uint16_t tell_option; /* its number */
};

/* Destinations of requests with Proxy-Uri or Proxy-Scheme: nothing is allowed but what is listed.
 */
struct config_forward {
    bool enabled;
    struct config_address *networks; /* destinations by address */
    unsigned network_count;
    char **names; /* by name, lower case; "*.example.org" stands for all names below */
    unsigned name_count;
    char *dns_servers; /* "10.0.0.53:53,[fd00::53]:5353", always with ports, as c-ares takes them;
                          NULL: the system's */
    struct config_upstream upstream; /* how they are talked to; no name and no servers */
};

struct config_cache {
    uint64_t bytes; /* for each worker; 0: no cache */
    uint32_t
        stale_if_error_s; /* how long after its end an entry may stand in for a failed origin */
};

struct config_observe {
    uint32_t confirm_every;    /* of so many notifications one is confirmable; 1: all */
    uint64_t confirm_after_us; /* when a state that was sent without confirmation is confirmed */
};

enum config_route_kind {
    CONFIG_ROUTE_UPSTREAM,
    CONFIG_ROUTE_RESPOND,
    CONFIG_ROUTE_RESOURCES, /* held by the gateway */
    CONFIG_ROUTE_MODULE,    /* a shared object's handlers */
};

/* Resources below a route's path that the gateway holds itself. */
struct config_resources {
    bool create;       /* PUT makes new ones, DELETE removes them; false: neither (4.05) */
    uint32_t max;      /* how many there may be; one more is answered 5.03 */
    uint64_t bytes;    /* their names and representations, in all */
    uint16_t *formats; /* Content-Formats that a PUT may have, each one once; others and none are
                          answered 4.15 */
    unsigned format_count; /* 0: any, and none */
};

struct config_module {
    char *file;    /* absolute path of the shared object */
    char *options; /* text that the module gets when it starts, or "" */
};

struct config_respond {
    uint8_t *payload;
    uint32_t payload_length; /* up to limits.body */
    bool has_content_format;
    uint16_t content_format;
    bool has_max_age;
    uint32_t max_age_s;
};

struct config_route {
    char *host; /* Uri-Host, lower case, an IPv6 literal without brackets; NULL: any host */
    char *path; /* starts with '/', does not end with one but for the root; escaped only where
                   RFC 7252 6.5 wants it, so that equal paths are equal texts */
    enum config_route_kind kind;
    unsigned upstream;      /* index into config.upstreams */
    uint8_t strip_segments; /* leading Uri-Path options that the origin does not get */
    struct config_respond respond;
    struct config_resources resources;
    struct config_module module;
    char **allow;         /* which clients may use it: patterns for principal_matches() */
    unsigned allow_count; /* 0: all */
};

enum config_store_kind { CONFIG_STORE_NONE, CONFIG_STORE_TCP, CONFIG_STORE_UNIX };

/* What survives a restart, see gateway/store/store.h. */
struct config_store {
    enum config_store_kind kind;
    char *host;    /* TCP: name or address, without brackets */
    uint16_t port; /* TCP */
    char *path;    /* Unix socket */
    unsigned database;
    char *username, *password; /* NULL: none. From the URL or from password_file */
    char *prefix;              /* of all keys */
    char *service;             /* who the keys belong to: "ADDRESS:PORT" of the first listener
                                  unless configured */
    uint32_t timeout_ms;       /* how long an answer waits for its record to be confirmed */
    bool reject;               /* on_failure: 5.03 instead of an answer without a record */
    uint32_t save_freq;        /* Observe numbers are reserved at least so many at a time */
    uint64_t resume_spread_us; /* over which resumed relations are notified and registered */
};

/* Where the journal is, see gateway/session/journal.h. */
struct config_journal {
    char *directory; /* absolute path; NULL: there is none */
};

struct config_admin {
    bool enabled;
    struct endpoint listen;
};

/* Of associations over DTLS. */
struct config_security {
    uint64_t idle_us;          /* after which an association is closed */
    uint32_t handshake_budget; /* units of handshakes' work in one turn of a worker */
    bool persist;              /* associations are written to the store, sealed with this key: */
    uint8_t persist_key[32];
    struct config_file persist_key_file;
};

/* Limits hold for each worker unless they say otherwise. */
struct config_limits {
    uint32_t sessions;         /* all workers together; divided among them */
    uint64_t session_idle_us;  /* at least EXCHANGE_LIFETIME */
    uint32_t exchanges;        /* requests being worked on */
    uint32_t outbound;         /* confirmable messages unacknowledged or queued */
    uint32_t queue;            /* confirmable messages queued for one peer beyond NSTART */
    uint32_t remembered;       /* message IDs remembered for deduplication */
    uint64_t message_bytes;    /* memory for messages that are kept */
    uint32_t token;            /* longest token accepted, bytes; 8 to 1024 */
    uint32_t body;             /* largest representation, bytes */
    uint64_t assembly_bytes;   /* memory for bodies that are being put together or handed out */
    uint32_t transfers;        /* block-wise transfers with clients under way */
    uint64_t transfer_idle_us; /* after which an unfinished one is given up */
    uint32_t observations;     /* resources observed at origins */
    uint32_t relations;        /* observe relations of clients */
    uint32_t client_requests;  /* of one client being worked on; more are answered 4.29 */
    uint32_t client_relations; /* of one client; more are answered without Observe */
    uint32_t destinations;     /* of the forward proxy that are remembered */
    uint32_t amplification;    /* how many times longer than its request an answer to a client whose
                                  address is unproven may be; 0: no limit */
    uint32_t parameter_sets;   /* sessions with transmission parameters of their own */
    uint32_t async;            /* requests that modules answer later */
    uint32_t module_slow_us;   /* a handler that takes longer is counted and named */
    uint32_t associations;     /* over DTLS, all workers together; divided among them */
    uint32_t handshakes;       /* of each worker; a ClientHello beyond is not answered */
};

struct config {
    char *file; /* as given on the command line */
    char *instance;
    unsigned workers;
    bool cores_auto;
    uint16_t cores[CONFIG_WORKERS_MAX]; /* one for each worker, unless cores_auto */
    enum config_idle idle;
    enum config_huge_pages huge_pages;
    uint64_t memory_bytes;
    uint16_t upstream_port_base; /* first upstream port; a multiple of the block size */
    uint8_t upstream_port_shift; /* each worker owns 1 << shift ports */
    struct config_interface *interfaces;
    unsigned interface_count;
    struct local_address *locals; /* all addresses of all interfaces, in order */
    unsigned local_count;
    struct config_listener *listeners;
    unsigned listener_count;
    struct config_upstream *upstreams;
    unsigned upstream_count;
    struct config_route *routes;
    unsigned route_count;
    struct config_forward forward;
    struct config_cache cache;
    struct config_observe observe;
    struct transmission transmission;
    uint64_t separate_after_us;
    uint64_t keepalive_us; /* what listeners and upstreams have that say nothing of it */
    struct config_store store;
    struct config_journal journal;
    struct config_admin admin;
    struct config_security security;
    struct loss packet_loss; /* for tests: messages that are not sent */
    struct config_limits limits;
};

/* Reads, checks and resolves FILE. NULL when anything is wrong: each error is one line on `errors`,
 * "FILE:LINE: KEY: what is wrong; what to write instead", as many as can be found in one go. */
struct config *config_load(const char *file, FILE *errors);

/* The same from memory; `name` stands for the file in messages. For tests and the simulator. */
struct config *config_load_text(const char *name, const char *text, size_t length, FILE *errors);

void config_free(struct config *config);

#endif
