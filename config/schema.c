#include "config/schema.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/security/cipher_suite.h"
#include "gateway/security/psk.h"

#define TEXT_MAX 65536 /* bytes of one value, but for a payload */

/* Short rows: a text that may be absent, and one that may not. */
#define TEXT(key, structure) \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_OPTIONAL, struct structure, key, 1, TEXT_MAX)
#define NEED(key, structure) \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_DEFAULT, struct structure, key, 1, TEXT_MAX)
#define LIST(key, flags, structure, entry, min, max) \
    CYAML_FIELD_SEQUENCE(#key, CYAML_FLAG_POINTER | (flags), struct structure, key, entry, min, max)
#define FLAG(key, structure) CYAML_FIELD_BOOL_PTR(#key, CYAML_FLAG_OPTIONAL, struct structure, key)
#define WORD(key, structure, words)                                                               \
    CYAML_FIELD_ENUM(#key, CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT, struct structure, key, words, \
                     sizeof(words) / sizeof(words[0]))

static const cyaml_strval_t idle_words[] = {{"adaptive", CONFIG_IDLE_ADAPTIVE},
                                            {"spin", CONFIG_IDLE_SPIN}};

static const cyaml_strval_t huge_words[] = {
    {"auto", CONFIG_HUGE_AUTO}, {"never", CONFIG_HUGE_NEVER}, {"always", CONFIG_HUGE_ALWAYS}};

static const cyaml_strval_t balance_words[] = {{"hash", CONFIG_BALANCE_HASH},
                                               {"round_robin", CONFIG_BALANCE_ROUND_ROBIN}};

static const cyaml_strval_t failure_words[] = {{"serve", RAW_SERVE}, {"reject", RAW_REJECT}};

static const cyaml_strval_t clients_words[] = {{"none", CONFIG_CLIENTS_NONE},
                                               {"optional", CONFIG_CLIENTS_OPTIONAL},
                                               {"required", CONFIG_CLIENTS_REQUIRED}};

static const cyaml_schema_value_t text_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, TEXT_MAX),
};

static const cyaml_schema_field_t memory_fields[] = {
    WORD(huge_pages, raw_memory, huge_words),
    TEXT(size, raw_memory),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t interface_fields[] = {
    NEED(name, raw_interface),
    NEED(device, raw_interface),
    TEXT(mac, raw_interface),
    LIST(addresses, 0, raw_interface, &text_entry, 1, 64),
    TEXT(gateway, raw_interface),
    TEXT(gateway6, raw_interface),
    LIST(host_addresses, CYAML_FLAG_OPTIONAL, raw_interface, &text_entry, 0, 64),
    TEXT(vlan, raw_interface),
    TEXT(mtu, raw_interface),
    TEXT(queues, raw_interface),
    TEXT(rx_descriptors, raw_interface),
    TEXT(tx_descriptors, raw_interface),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t transmission_fields[] = {
    TEXT(ack_timeout, raw_transmission),
    TEXT(ack_random_factor, raw_transmission),
    TEXT(max_retransmit, raw_transmission),
    TEXT(nstart, raw_transmission),
    TEXT(default_leisure, raw_transmission),
    TEXT(probing_rate, raw_transmission),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t psk_fields[] = {
    TEXT(file, raw_psk),
    FLAG(store, raw_psk),
    CYAML_FIELD_STRING_PTR("hint", CYAML_FLAG_OPTIONAL, struct raw_psk, hint, 0, 128),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t dtls_listener_fields[] = {
    CYAML_FIELD_MAPPING_PTR("psk", CYAML_FLAG_OPTIONAL, struct raw_dtls_listener, psk, psk_fields),
    TEXT(certificate, raw_dtls_listener),
    TEXT(key, raw_dtls_listener),
    WORD(client_certificates, raw_dtls_listener, clients_words),
    TEXT(ca, raw_dtls_listener),
    TEXT(crl, raw_dtls_listener),
    LIST(names, CYAML_FLAG_OPTIONAL, raw_dtls_listener, &text_entry, 1, 1024),
    LIST(suites, CYAML_FLAG_OPTIONAL, raw_dtls_listener, &text_entry, 1, CIPHER_SUITES_MAX),
    FLAG(tickets, raw_dtls_listener),
    FLAG(connection_id, raw_dtls_listener),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t dtls_upstream_fields[] = {
    CYAML_FIELD_STRING_PTR("identity", CYAML_FLAG_OPTIONAL, struct raw_dtls_upstream, identity, 1,
                           PSK_IDENTITY_MAX),
    TEXT(key_file, raw_dtls_upstream),
    TEXT(certificate, raw_dtls_upstream),
    TEXT(key, raw_dtls_upstream),
    TEXT(ca, raw_dtls_upstream),
    TEXT(crl, raw_dtls_upstream),
    TEXT(name, raw_dtls_upstream),
    LIST(suites, CYAML_FLAG_OPTIONAL, raw_dtls_upstream, &text_entry, 1, CIPHER_SUITES_MAX),
    FLAG(connection_id, raw_dtls_upstream),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t tell_fields[] = {
    TEXT(query, raw_tell),
    TEXT(option, raw_tell),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t listener_fields[] = {
    NEED(uri, raw_listener),
    TEXT(block_size, raw_listener),
    FLAG(multicast, raw_listener),
    TEXT(keepalive, raw_listener),
    CYAML_FIELD_MAPPING_PTR("transmission", CYAML_FLAG_OPTIONAL, struct raw_listener, transmission,
                            transmission_fields),
    CYAML_FIELD_MAPPING_PTR("dtls", CYAML_FLAG_OPTIONAL, struct raw_listener, dtls,
                            dtls_listener_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t upstream_fields[] = {
    NEED(name, raw_upstream),
    LIST(servers, 0, raw_upstream, &text_entry, 1, 256),
    WORD(balance, raw_upstream, balance_words),
    FLAG(reliable, raw_upstream),
    TEXT(timeout, raw_upstream),
    TEXT(ports, raw_upstream),
    TEXT(block_size, raw_upstream),
    TEXT(retries, raw_upstream),
    TEXT(max_outstanding, raw_upstream),
    TEXT(keepalive, raw_upstream),
    TEXT(revive, raw_upstream),
    CYAML_FIELD_MAPPING_PTR("transmission", CYAML_FLAG_OPTIONAL, struct raw_upstream, transmission,
                            transmission_fields),
    CYAML_FIELD_MAPPING_PTR("dtls", CYAML_FLAG_OPTIONAL, struct raw_upstream, dtls,
                            dtls_upstream_fields),
    CYAML_FIELD_MAPPING_PTR("tell_client", CYAML_FLAG_OPTIONAL, struct raw_upstream, tell_client,
                            tell_fields),
    CYAML_FIELD_END,
};

/* The keys of an upstream that make sense without a list of servers. */
#define FORWARD(key) \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_OPTIONAL, struct raw_forward, upstream.key, 1, TEXT_MAX)

static const cyaml_schema_field_t forward_fields[] = {
    LIST(allow, 0, raw_forward, &text_entry, 1, 1024),
    LIST(dns_servers, CYAML_FLAG_OPTIONAL, raw_forward, &text_entry, 1, 16),
    CYAML_FIELD_BOOL_PTR("reliable", CYAML_FLAG_OPTIONAL, struct raw_forward, upstream.reliable),
    FORWARD(timeout),
    FORWARD(ports),
    FORWARD(block_size),
    FORWARD(max_outstanding),
    CYAML_FIELD_MAPPING_PTR("transmission", CYAML_FLAG_OPTIONAL, struct raw_forward,
                            upstream.transmission, transmission_fields),
    CYAML_FIELD_MAPPING_PTR("dtls", CYAML_FLAG_OPTIONAL, struct raw_forward, upstream.dtls,
                            dtls_upstream_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t cache_fields[] = {
    TEXT(size, raw_cache),
    TEXT(stale_if_error, raw_cache),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t observe_fields[] = {
    TEXT(confirm_every, raw_observe),
    TEXT(confirm_after, raw_observe),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t respond_fields[] = {
    CYAML_FIELD_STRING_PTR("payload", CYAML_FLAG_DEFAULT, struct raw_respond, payload, 0,
                           CYAML_UNLIMITED),
    TEXT(content_format, raw_respond),
    TEXT(max_age, raw_respond),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t resources_fields[] = {
    FLAG(create, raw_resources),
    TEXT(max, raw_resources),
    TEXT(size, raw_resources),
    LIST(formats, CYAML_FLAG_OPTIONAL, raw_resources, &text_entry, 1, 256),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t module_fields[] = {
    NEED(file, raw_module),
    CYAML_FIELD_STRING_PTR("options", CYAML_FLAG_OPTIONAL, struct raw_module, options, 0, 1024),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t route_fields[] = {
    TEXT(host, raw_route),
    NEED(path, raw_route),
    TEXT(to, raw_route),
    FLAG(strip, raw_route),
    CYAML_FIELD_MAPPING_PTR("respond", CYAML_FLAG_OPTIONAL, struct raw_route, respond,
                            respond_fields),
    CYAML_FIELD_MAPPING_PTR("resources", CYAML_FLAG_OPTIONAL, struct raw_route, resources,
                            resources_fields),
    CYAML_FIELD_MAPPING_PTR("module", CYAML_FLAG_OPTIONAL, struct raw_route, module, module_fields),
    LIST(allow, CYAML_FLAG_OPTIONAL, raw_route, &text_entry, 1, 1024),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t ports_fields[] = {
    TEXT(base, raw_ports),
    TEXT(per_worker, raw_ports),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t limits_fields[] = {
    TEXT(sessions, raw_limits),
    TEXT(session_idle, raw_limits),
    TEXT(exchanges, raw_limits),
    TEXT(outbound, raw_limits),
    TEXT(queue, raw_limits),
    TEXT(remembered, raw_limits),
    TEXT(message_memory, raw_limits),
    TEXT(token, raw_limits),
    TEXT(body, raw_limits),
    TEXT(assembly_memory, raw_limits),
    TEXT(transfers, raw_limits),
    TEXT(transfer_idle, raw_limits),
    TEXT(observations, raw_limits),
    TEXT(relations, raw_limits),
    TEXT(client_requests, raw_limits),
    TEXT(client_relations, raw_limits),
    TEXT(destinations, raw_limits),
    TEXT(amplification, raw_limits),
    TEXT(parameter_sets, raw_limits),
    TEXT(async, raw_limits),
    TEXT(module_slow, raw_limits),
    TEXT(associations, raw_limits),
    TEXT(handshakes, raw_limits),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t store_fields[] = {
    NEED(url, raw_store),
    TEXT(username, raw_store),
    TEXT(password_file, raw_store),
    TEXT(prefix, raw_store),
    TEXT(service, raw_store),
    TEXT(timeout, raw_store),
    WORD(on_failure, raw_store, failure_words),
    TEXT(save_freq, raw_store),
    TEXT(resume_spread, raw_store),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t journal_fields[] = {
    TEXT(directory, raw_journal),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t admin_fields[] = {
    TEXT(listen, raw_admin),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t security_fields[] = {
    TEXT(idle, raw_security),
    TEXT(handshake_budget, raw_security),
    TEXT(persist_key_file, raw_security),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t debug_fields[] = {
    TEXT(packet_loss, raw_debug),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t interface_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_interface, interface_fields),
};

static const cyaml_schema_value_t listener_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_listener, listener_fields),
};

static const cyaml_schema_value_t upstream_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_upstream, upstream_fields),
};

static const cyaml_schema_value_t route_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_route, route_fields),
};

static const cyaml_schema_field_t config_fields[] = {
    TEXT(instance, raw_config),
    TEXT(workers, raw_config),
    TEXT(cores, raw_config),
    WORD(idle, raw_config, idle_words),
    CYAML_FIELD_MAPPING("memory", CYAML_FLAG_OPTIONAL, struct raw_config, memory, memory_fields),
    LIST(interfaces, 0, raw_config, &interface_entry, 1, 64),
    LIST(listeners, 0, raw_config, &listener_entry, 1, 1024),
    LIST(upstreams, CYAML_FLAG_OPTIONAL, raw_config, &upstream_entry, 0, 1024),
    LIST(routes, CYAML_FLAG_OPTIONAL, raw_config, &route_entry, 0, 65536),
    CYAML_FIELD_MAPPING_PTR("forward_proxy", CYAML_FLAG_OPTIONAL, struct raw_config, forward_proxy,
                            forward_fields),
    CYAML_FIELD_MAPPING("cache", CYAML_FLAG_OPTIONAL, struct raw_config, cache, cache_fields),
    CYAML_FIELD_MAPPING("observe", CYAML_FLAG_OPTIONAL, struct raw_config, observe, observe_fields),
    CYAML_FIELD_MAPPING("transmission", CYAML_FLAG_OPTIONAL, struct raw_config, transmission,
                        transmission_fields),
    TEXT(separate_after, raw_config),
    TEXT(keepalive, raw_config),
    CYAML_FIELD_MAPPING_PTR("store", CYAML_FLAG_OPTIONAL | SCHEMA_OR_NONE, struct raw_config, store,
                            store_fields),
    CYAML_FIELD_MAPPING_PTR("journal", CYAML_FLAG_OPTIONAL | SCHEMA_OR_NONE, struct raw_config,
                            journal, journal_fields),
    CYAML_FIELD_MAPPING_PTR("admin", CYAML_FLAG_OPTIONAL | SCHEMA_OR_NONE, struct raw_config, admin,
                            admin_fields),
    CYAML_FIELD_MAPPING("security", CYAML_FLAG_OPTIONAL, struct raw_config, security,
                        security_fields),
    CYAML_FIELD_MAPPING("debug", CYAML_FLAG_OPTIONAL, struct raw_config, debug, debug_fields),
    CYAML_FIELD_MAPPING("upstream_ports", CYAML_FLAG_OPTIONAL, struct raw_config, upstream_ports,
                        ports_fields),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct raw_config, limits, limits_fields),
    CYAML_FIELD_END,
};

const cyaml_schema_value_t config_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_fields),
};

/* ---- loading ---- */

/* What libcyaml logs about a failure: a message, then a backtrace of where it was. */
struct complaint {
    char message[256];
    unsigned line; /* of the innermost place, 0: none was named */
};

static void on_log(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    struct complaint *complaint = context;
    char text[256];
    const char *line;

    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    if (!complaint->message[0])
        memcpy(complaint->message, text, sizeof(text));
    line = strstr(text, "line: ");
    if (line && complaint->line == 0)
        complaint->line = (unsigned)strtoul(line + strlen("line: "), NULL, 10);
}

static cyaml_config_t loader_setup(struct complaint *complaint)
{
    return (cyaml_config_t){
        .log_fn = on_log,
        .log_ctx = complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_DEFAULT,
    };
}

#define FIELDS (sizeof(config_fields) / sizeof(config_fields[0]))

/* libcyaml has no value that is either a mapping or a word: it skips the key where the word is. */
static void skip_words(const struct node *root, cyaml_schema_field_t fields[FIELDS])
{
    static const cyaml_schema_value_t skipped = {.type = CYAML_IGNORE,
                                                 .flags = CYAML_FLAG_OPTIONAL};

    memcpy(fields, config_fields, sizeof(config_fields));
    for (size_t i = 0; i + 1 < FIELDS; i++) {
        const struct node *node = node_find(root, fields[i].key);

        if (node && node->kind == NODE_SCALAR && (fields[i].value.flags & SCHEMA_OR_NONE))
            fields[i].value = skipped;
    }
}

struct raw_config *schema_load(const char *text, size_t length, const struct node *root,
                               struct report *report)
{
    cyaml_schema_field_t fields[FIELDS];
    cyaml_schema_value_t schema = config_schema;
    struct complaint complaint = {0};
    cyaml_config_t setup = loader_setup(&complaint);
    cyaml_data_t *data = NULL;
    cyaml_err_t err;

    skip_words(root, fields);
    schema.mapping.fields = fields;
    err = cyaml_load_data((const uint8_t *)text, length, &setup, &schema, &data, NULL);
    if (err == CYAML_OK && data)
        return data;
    report_error(report, complaint.line, "file", "%s (%s); correct it as coapgw.yaml shows",
                 complaint.message[0] ? complaint.message : "cannot be loaded",
                 cyaml_strerror(err));
    return NULL;
}

void schema_free(struct raw_config *raw)
{
    struct complaint unused = {0};
    cyaml_config_t setup = loader_setup(&unused);

    cyaml_free(&setup, &config_schema, raw, 0);
}
