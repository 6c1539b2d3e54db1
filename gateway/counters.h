/* What one worker counts. Every datagram that is not answered or forwarded ends in exactly one drop
 * counter, so that nothing is lost without a trace.
 *
 * The owner adds with plain increments; the control thread reads single values with relaxed loads
 * and may see a value that is a moment old. One structure for each worker, on cache lines of its
 * own. */
#ifndef COAPGW_GATEWAY_COUNTERS_H
#define COAPGW_GATEWAY_COUNTERS_H

#include <stdint.h>
#include <stdio.h>

#include "gateway/coap/message.h"

/* X(name, meaning). Counters whose name begins with drop_ are packets or messages that ended there.
 */
#define COUNTERS_DEVICE(X)                                                                   \
    X(rx_packets, "packets received from devices")                                           \
    X(rx_bytes, "bytes of these packets")                                                    \
    X(tx_packets, "packets handed to devices")                                               \
    X(tx_bytes, "bytes of these packets")                                                    \
    X(steered_in, "packets taken over from another worker's queue")                          \
    X(steered_out, "packets handed to the worker that owns their flow")                      \
    X(drop_steer_full, "the ring to the owning worker was full")                             \
    X(drop_no_buffer, "no packet buffer was free")                                           \
    X(drop_runt, "packets shorter than their headers")                                       \
    X(drop_mac, "packets to another MAC address")                                            \
    X(drop_vlan, "packets with the wrong VLAN tag, or with one where none is expected")      \
    X(drop_ethertype, "packets that are neither IPv4, IPv6 nor ARP")                         \
    X(drop_ip_header, "malformed IP headers")                                                \
    X(drop_ip_checksum, "wrong IPv4 header checksums")                                       \
    X(drop_source, "packets from an address that nobody can send from")                      \
    X(drop_not_ours, "packets to an address that is not ours")                               \
    X(drop_protocol, "IP packets that are neither UDP nor an ICMP message of use")           \
    X(drop_udp_header, "malformed UDP headers")                                              \
    X(drop_udp_checksum, "wrong UDP checksums")                                              \
    X(drop_fragment, "fragments that were invalid, incomplete in time, or too large in all") \
    X(drop_icmp, "malformed or unneeded ICMP messages, and pings longer than a packet")      \
    X(drop_icmp_rate, "echo requests beyond the rate limit")                                 \
    X(drop_arp, "malformed or unneeded ARP packets")                                         \
    X(drop_steer_loop, "packets that had been handed over too often")                        \
    X(drop_no_route, "packets to an address that no subnet and no gateway leads to")         \
    X(drop_neighbour_queue, "packets that waited for a neighbour when too many did")         \
    X(drop_neighbour_silent, "packets to a neighbour that does not answer")                  \
    X(drop_membership, "malformed or unneeded IGMP and MLD messages")                        \
    X(arp_answered, "ARP requests answered")                                                 \
    X(arp_learned, "ARP and discovery packets that were learned from, without an answer")    \
    X(arp_asked, "ARP requests sent")                                                        \
    X(learn_limited, "ARP and ND packets that other workers were not told of: rate limit")   \
    X(nd_answered, "neighbour solicitations answered")                                       \
    X(nd_asked, "neighbour solicitations sent")                                              \
    X(announced, "announcements of our addresses at start, ARP and neighbour discovery")     \
    X(echo_answered, "pings answered")                                                       \
    X(icmp_errors, "ICMP errors about packets of ours")                                      \
    X(membership_heard, "IGMP and MLD queries, and reports of others, that concern us")      \
    X(membership_reports, "IGMP and MLD reports sent, those of leaving among them")          \
    X(reassembled, "datagrams put together from fragments")                                  \
    X(drop_tx_full, "the device took no more packets")

#define COUNTERS_CORE(X)                                                                          \
    X(sessions_opened, "sessions created")                                                        \
    X(sessions_expired, "sessions removed because they were idle")                                \
    X(sessions_evicted, "idle sessions removed to make room for new ones")                        \
    X(sessions_refused, "peers that could have no session because all were busy")                 \
    X(requests, "requests accepted for handling, duplicates not counted")                         \
    X(responses, "responses received for our requests")                                           \
    X(keepalive_pings, "pings sent to silent clients, retransmissions not counted")               \
    X(keepalive_pongs, "answers to them")                                                         \
    X(keepalive_postponed, "pings to clients put off because too many were under way")            \
    X(keepalive_failed, "sessions removed because their client did not answer")                   \
    X(lost_on_purpose, "messages not sent because of packet loss for tests, counted as sent")     \
    X(duplicates, "messages recognised as duplicates")                                            \
    X(duplicates_replayed, "duplicates answered with the stored answer")                          \
    X(pings, "CoAP pings answered")                                                               \
    X(empty_acks, "Empty ACKs sent because the answer took longer")                               \
    X(separate_responses, "responses sent apart from the ACK")                                    \
    X(unkept_responses, "separate responses sent as NON because they could not be kept")          \
    X(retransmissions, "retransmissions of confirmable messages")                                 \
    X(give_ups, "confirmable messages without an ACK after all retransmissions")                  \
    X(probing_waits, "NON requests that waited for probing_rate: their server was silent")        \
    X(nstart_waits, "confirmable messages that had to wait for NSTART")                           \
    X(resets_sent, "RST messages sent")                                                           \
    X(unreachables, "ICMP errors matched to an exchange")                                         \
    X(challenges, "clients asked to prove their address with Echo (4.01)")                        \
    X(suppressed_responses, "responses not sent because of No-Response")                          \
    X(forwards, "requests forwarded to an origin")                                                \
    X(forward_timeouts, "forwarded requests without an answer in time (5.04)")                    \
    X(forward_failures, "forwarded requests that the origin refused or answered wrongly (5.02)")  \
    X(retries, "safe requests given to another server because one failed")                        \
    X(servers_down, "servers found to be down")                                                   \
    X(servers_up, "servers that answered again")                                                  \
    X(server_pings, "pings sent to servers")                                                      \
    X(cache_hits, "requests answered from the cache")                                             \
    X(cache_misses, "safe requests that the cache had no fresh answer for")                       \
    X(cache_validated, "stored answers that the origin said are still valid (2.03)")              \
    X(cache_invalidations, "stored answers given up because their resource was changed")          \
    X(cache_evictions, "stored answers given up to make room for others")                         \
    X(cache_stale, "stale answers given because the origin failed (cache.stale_if_error)")        \
    X(joined, "requests that waited for an identical one under way")                              \
    X(transfers_expired, "block-wise transfers with clients that did not go on")                  \
    X(observations, "resources that were begun to be observed at origins")                        \
    X(registrations, "registrations sent to origins, renewals included")                          \
    X(cancellations, "observations cancelled at origins because no client was left")              \
    X(notifications_received, "notifications from origins")                                       \
    X(relations, "observe relations accepted from clients")                                       \
    X(relations_ended, "observe relations ended because the origin ended the observation")        \
    X(relations_left,                                                                             \
      "observe relations left to another gateway, which has taken the service over")              \
    X(relations_lost, "observe relations ended by RST, an ICMP error or a CON without an ACK")    \
    X(notifications, "notifications sent to clients, retransmissions not counted")                \
    X(relations_resumed,                                                                          \
      "observe relations of before a restart whose clients were told the state")                  \
    X(records_put, "records of observe relations given to the store")                             \
    X(records_failed, "registrations answered although, or refused because, the store failed")    \
    X(records_unusable, "records of the store that no relation could be made of")                 \
    X(module_calls, "calls of modules' functions")                                                \
    X(module_slow, "calls of them that took longer than limits.module_slow")                      \
    X(module_failures, "answers of modules without a code, or with more than fits (5.00)")        \
    X(module_states, "new states of observed resources asked of modules")                         \
    X(module_log_lost, "lines of modules that were not printed: too many in a second")            \
    X(asyncs, "requests that modules answer later")                                               \
    X(asyncs_dropped, "of those, freed without an answer, or with their session")                 \
    X(refused_asyncs, "requests that modules could not answer later: a limit or memory")          \
    X(resource_writes, "changes of held resources that this worker decided as their owner")       \
    X(resource_states, "changes of held resources that this worker heard of from their owners")   \
    X(resources_refused, "writes to held resources refused (5.03): a limit, or something full")   \
    X(resource_timeouts, "writes to held resources whose outcome did not come in time")           \
    X(resource_records, "records of held resources given to the store")                           \
    X(resources_restored, "held resources taken in from the store")                               \
    X(resource_records_unusable, "records of the store that no held resource could be made of")   \
    X(drop_resource_state, "changes of held resources that were lost: replicas differ")           \
    X(names_asked, "host names given to the resolver")                                            \
    X(names_failed, "host names without a usable address")                                        \
    X(forward_forbidden, "requests to destinations that forward_proxy does not allow (4.03)")     \
    X(drop_old_notification, "notifications older than what had come before")                     \
    X(dtls_hello_verify, "ClientHello answered with a cookie, nothing kept of them")              \
    X(dtls_handshakes, "handshakes that became associations")                                     \
    X(dtls_resumed, "of those, resumed by a session ticket")                                      \
    X(dtls_handshakes_failed, "handshakes that ended without an association")                     \
    X(dtls_handshakes_refused, "ClientHello not answered: limits.handshakes, or the end is near") \
    X(dtls_records_in, "records of associations opened")                                          \
    X(dtls_records_out, "messages sent in records of associations")                               \
    X(dtls_alerts_in, "alerts received in associations")                                          \
    X(dtls_alerts_out, "alerts sent in associations")                                             \
    X(associations_opened, "associations made by handshakes")                                     \
    X(associations_closed, "associations ended by an alert of either side")                       \
    X(associations_expired, "associations ended because they were idle (security.idle)")          \
    X(associations_evicted, "associations ended to make room for new ones")                       \
    X(associations_replaced, "associations ended by a new handshake from the same address")       \
    X(associations_exhausted, "associations ended because their keys had been used enough")       \
    X(associations_moved, "changes of peers' addresses that their Connection IDs allowed")        \
    X(associations_kept, "records of associations given to the store")                            \
    X(associations_restored, "associations of before a start, taken up again")                    \
    X(associations_unusable, "records of the store that no association could be made of")         \
    X(associations_left, "associations left to the gateway that has taken the service over")      \
    X(drop_dtls_malformed, "datagrams to coaps ports, or their ends, that are no records")        \
    X(drop_dtls_unknown, "records that belong to no association and no handshake")                \
    X(drop_dtls_epoch, "records of an epoch that their association does not have")                \
    X(drop_dtls_replay, "records that had come before, or are too old to tell")                   \
    X(drop_dtls_forged, "records that are not authentic")                                         \
    X(drop_dtls_type, "authentic records of a type that has no place in an association")          \
    X(drop_dtls_queue, "datagrams of handshakes beyond those that may wait")                      \
    X(drop_dtls_limit, "messages not sent because no sequence number was to be had")              \
    X(drop_no_listener, "datagrams to a port on which nothing listens")                           \
    X(drop_unmatched_ack, "ACK messages that match nothing")                                      \
    X(drop_unmatched_rst, "RST messages that match nothing")                                      \
    X(drop_unmatched_response, "responses that match no request")                                 \
    X(drop_duplicate, "duplicates that ask for no answer")                                        \
    X(drop_former, "NON requests (POST, PATCH) that had come before the restart")                 \
    X(drop_request_type, "requests in ACK or RST messages, Empty NON messages")                   \
    X(drop_bad_option, "NON or multicast messages with an option that is not understood")         \
    X(drop_multicast, "multicast messages that are not NON requests")                             \
    X(drop_multicast_error, "error answers to multicast requests, which are suppressed")          \
    X(drop_long_token, "NON requests with a token beyond limits.token")                           \
    X(drop_upstream_request, "requests that an origin sent on an upstream flow")                  \
    X(drop_no_mid, "messages that were not sent because all message IDs had been used")           \
    X(drop_stray_icmp, "ICMP errors that match no exchange")                                      \
    X(drop_reply_buffer, "answers that were lost because no outgoing buffer was free")            \
    X(drop_leisure_full, "multicast requests beyond the limit of delayed answers")                \
    X(refused_memory, "requests answered 5.03 because a table or the message memory was full")    \
    X(refused_queue,                                                                              \
      "requests answered 5.03 because too many waited for a peer or were at an upstream")         \
    X(refused_client, "requests answered 4.29 because their client had too many open")            \
    X(refused_former, "CON requests (POST, PATCH) that had come before the restart (5.04)")       \
    X(refused_transfers, "block-wise transfers without room for them")                            \
    X(refused_observations, "resources not observed because limits.observations was reached")     \
    X(refused_relations, "registrations answered without Observe because of a limit")

struct counters {
#define X(name, meaning) uint64_t name;
    COUNTERS_DEVICE(X)
    COUNTERS_CORE(X)
#undef X
    uint64_t rx_type[4], tx_type[4]; /* by enum message_type */
    uint64_t
        rx_verdict[VERDICT_COUNT]; /* by enum message_verdict; VERDICT_OK counts the good ones */
    uint64_t rx_code[256], tx_code[256]; /* by code */
} __attribute__((aligned(64)));

/* Calls `each` for every counter with its name, meaning and value; those of type, verdict and code
 * with generated names ("rx_con", "rx_verdict_option_overrun", "tx_code_2.05"). */
void counters_visit(const struct counters *c,
                    void (*each)(void *context, const char *name, const char *meaning,
                                 uint64_t value),
                    void *context);

/* Adds all of `from` to `sum`; `from` may be counting meanwhile. */
void counters_add(struct counters *sum, const struct counters *from);

/* One line for each counter that is not zero: "prefix name value". */
void counters_print(const struct counters *c, const char *prefix, FILE *out);

#endif
