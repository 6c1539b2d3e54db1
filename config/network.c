/* Interfaces and their addresses. */
#include <errno.h>

#include "config/loader.h"
#include "config/quantity.h"
#include "config/value.h"

/* ---- addresses ---- */

static bool is_loopback(const struct address *a)
{
    static const struct address loopback6 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

    return address_is_v4(a) ? a->bytes[12] == 127 : address_equal(a, &loopback6);
}

static bool is_broadcast(const struct address *a)
{
    static const uint8_t all[4] = {255, 255, 255, 255};

    return address_is_v4(a) && memcmp(a->bytes + 12, all, 4) == 0;
}

bool address_is_usable(const struct place *at, const char *text, const struct address *address)
{
    const char *what = address_is_unspecified(address) ? "the unspecified address"
                       : address_is_multicast(address) ? "a multicast address"
                       : is_loopback(address)          ? "a loopback address"
                       : is_broadcast(address)         ? "the broadcast address"
                                                       : NULL;

    if (what)
        place_error(at, "\"%.80s\" is %s; write a unicast address", text, what);
    return !what;
}

/* In subnets of IPv4 with room for more than two, the first and the last address are no host's. */
static bool is_subnet_edge(const struct config_address *a)
{
    uint32_t host, mask;

    if (!address_is_v4(&a->address) || a->prefix > 30)
        return false;
    mask = UINT32_MAX >> a->prefix;
    host = ((uint32_t)a->address.bytes[12] << 24 | (uint32_t)a->address.bytes[13] << 16 |
            (uint32_t)a->address.bytes[14] << 8 | a->address.bytes[15]) &
           mask;
    return host == 0 || host == mask;
}

static bool read_address(const struct place *at, const char *text, struct config_address *out)
{
    int err = value_prefix(text, out);

    if (err == -ENOENT)
        place_error(at, "\"%.80s\" has no prefix length; write ADDRESS/LENGTH, such as %.45s/%d",
                    text, text, address_is_v4(&out->address) ? 24 : 64);
    else if (err == -ERANGE || (!err && out->prefix == 0))
        place_error(at, "\"%.80s\" has a prefix length out of range; write 1 to %d", text,
                    address_is_v4(&out->address) ? 32 : 128);
    else if (err)
        place_error(at, "\"%.80s\" is not an address; write ADDRESS/LENGTH, such as 10.99.0.2/24",
                    text);
    else if (is_subnet_edge(out))
        place_error(at, "\"%.80s\" is the network's own or its broadcast address; write a host's",
                    text);
    else
        return address_is_usable(at, text, &out->address);
    memset(out, 0, sizeof(*out));
    return false;
}

static struct config_address *read_addresses(struct loader *l, const struct place *interface,
                                             const char *key, char *const *texts, unsigned count)
{
    struct place list = place_key(interface, key);
    struct config_address *addresses = loader_array(l, count, sizeof(*addresses));

    for (unsigned i = 0; addresses && i < count; i++) {
        struct place at = place_entry(&list, i);

        if (!read_address(&at, texts[i], &addresses[i]))
            continue;
        for (unsigned j = 0; j < i; j++)
            if (address_equal(&addresses[i].address, &addresses[j].address))
                place_error(&at, "\"%.80s\" is there twice; remove one of them", texts[i]);
    }
    return addresses;
}

/* True for an address that could be read: the others are left zero. */
static bool is_set(const struct config_address *a)
{
    return a->prefix != 0;
}

static bool has_address(const struct config_interface *interface, const struct address *address)
{
    for (unsigned i = 0; i < interface->address_count; i++)
        if (is_set(&interface->addresses[i]) &&
            address_equal(&interface->addresses[i].address, address))
            return true;
    return false;
}

/* An address that could not be read may have been the right one: it has its own error. */
static bool is_on_link(const struct config_interface *interface, const struct address *address)
{
    for (unsigned i = 0; i < interface->address_count; i++) {
        const struct config_address *own = &interface->addresses[i];

        if (!is_set(own) || address_in_subnet(address, &own->address, own->prefix))
            return true;
    }
    return false;
}

static bool read_gateway(const struct place *interface, const struct config_interface *out,
                         const char *key, const char *text, struct address *gateway)
{
    struct place at = place_key(interface, key);
    bool v4 = strcmp(key, "gateway") == 0;

    if (!text)
        return false;
    if (address_parse(text, gateway) < 0 || address_is_v4(gateway) != v4) {
        place_error(&at, "\"%.80s\" is not an IPv%d address; write one without a prefix length",
                    text, v4 ? 4 : 6);
        return false;
    }
    if (!address_is_usable(&at, text, gateway))
        return false;
    if (has_address(out, gateway)) {
        place_error(&at, "\"%.80s\" is the interface's own address; write the next hop's", text);
        return false;
    }
    if (!is_on_link(out, gateway) && (v4 || !address_is_link_local(gateway))) {
        place_error(&at, "\"%.80s\" is in no subnet of this interface; write an address that is",
                    text);
        return false;
    }
    return true;
}

static void check_host_addresses(const struct place *interface, const struct config_interface *out,
                                 char *const *texts)
{
    struct place list = place_key(interface, "host_addresses");

    if (out->host_address_count && out->device != CONFIG_DEVICE_TAP)
        place_error(&list, "only a tap: device has them; remove them");
    for (unsigned i = 0; i < out->host_address_count; i++) {
        struct place at = place_entry(&list, i);

        if (is_set(&out->host_addresses[i]) && has_address(out, &out->host_addresses[i].address))
            place_error(&at, "\"%.80s\" is the interface's own address; write another one",
                        texts[i]);
    }
}

/* ---- one interface ---- */

static void read_mac(const struct place *interface, struct config_interface *out, const char *text)
{
    static const uint8_t none[6] = {0};

    if (!text || strcmp(text, "auto") == 0)
        return;
    if (value_mac(text, out->mac) < 0)
        key_error(
            interface, "mac",
            "\"%.80s\" is not a MAC address; write auto, or one such as \"02:00:00:00:00:01\"",
            text);
    else if ((out->mac[0] & 1) || memcmp(out->mac, none, sizeof(none)) == 0)
        key_error(interface, "mac",
                  "\"%.80s\" is not a unicast address; write one with an even first byte", text);
    else
        out->mac_set = true;
}

static void read_numbers(const struct place *at, struct config_interface *out,
                         const struct raw_interface *raw)
{
    static const struct quantity vlan = {"vlan", QUANTITY_COUNT, 1, 4094, 0};
    static const struct quantity mtu = {"mtu", QUANTITY_COUNT, 1280, 1500, 1500};
    static const struct quantity queues = {"queues", QUANTITY_COUNT, 0, CONFIG_WORKERS_MAX, 0};
    static const struct quantity rx = {"rx_descriptors", QUANTITY_POWER_OF_TWO, 64, 4096, 1024};
    static const struct quantity tx = {"tx_descriptors", QUANTITY_POWER_OF_TWO, 64, 4096, 1024};

    out->vlan = (uint16_t)quantity_read(at, &vlan, raw->vlan);
    out->mtu = (uint16_t)quantity_read(at, &mtu, raw->mtu);
    out->queues = (uint16_t)quantity_read(at, &queues, raw->queues);
    out->rx_descriptors = (uint16_t)quantity_read(at, &rx, raw->rx_descriptors);
    out->tx_descriptors = (uint16_t)quantity_read(at, &tx, raw->tx_descriptors);
}

static void check_unique(const struct loader *l, const struct place *at, unsigned index)
{
    const struct config_interface *own = &l->config->interfaces[index];

    for (unsigned i = 0; i < index; i++) {
        const struct config_interface *other = &l->config->interfaces[i];

        if (own->name && other->name && strcmp(own->name, other->name) == 0)
            key_error(at, "name", "\"%.80s\" is also the name of interfaces[%u]; write another one",
                      own->name, i);
        if (own->device == other->device && own->device_argument && other->device_argument &&
            own->device_argument[0] && strcmp(own->device_argument, other->device_argument) == 0)
            key_error(at, "device",
                      "\"%.80s\" is also the device of interfaces[%u]; write another one",
                      l->raw->interfaces[index].device, i);
    }
}

static void read_interface(struct loader *l, const struct place *at, unsigned index)
{
    const struct raw_interface *raw = &l->raw->interfaces[index];
    struct config_interface *out = &l->config->interfaces[index];

    if (!value_is_word(raw->name, ".", 32))
        key_error(at, "name", "\"%.80s\" is not a name; write 1 to 32 letters, digits, _, - or .",
                  raw->name);
    out->name = loader_text(l, raw->name);
    device_read(l, at, raw->device, out);
    read_mac(at, out, raw->mac);
    out->addresses = read_addresses(l, at, "addresses", raw->addresses, raw->addresses_count);
    out->address_count = out->addresses ? raw->addresses_count : 0;
    out->host_addresses =
        read_addresses(l, at, "host_addresses", raw->host_addresses, raw->host_addresses_count);
    out->host_address_count = out->host_addresses ? raw->host_addresses_count : 0;
    out->has_gateway = read_gateway(at, out, "gateway", raw->gateway, &out->gateway);
    out->has_gateway6 = read_gateway(at, out, "gateway6", raw->gateway6, &out->gateway6);
    check_host_addresses(at, out, raw->host_addresses);
    read_numbers(at, out, raw);
    check_unique(l, at, index);
}

/* ---- the table of own addresses ---- */

int loader_local(const struct loader *l, const struct address *address)
{
    for (unsigned i = 0; i < l->config->local_count; i++)
        if (address_equal(&l->config->locals[i].address, address))
            return (int)i;
    return -1;
}

static void add_locals(struct loader *l, const struct place *interfaces, unsigned index)
{
    const struct config_interface *interface = &l->config->interfaces[index];
    struct place at = place_entry(interfaces, index);
    struct place list = place_key(&at, "addresses");

    for (unsigned i = 0; i < interface->address_count; i++) {
        const struct config_address *own = &interface->addresses[i];
        struct place entry = place_entry(&list, i);
        int other = is_set(own) ? loader_local(l, &own->address) : -1;

        if (!is_set(own))
            continue;
        if (other >= 0 && l->config->locals[other].interface != index)
            place_error(&entry,
                        "\"%.80s\" is also an address of interfaces[%u]; remove one of them",
                        l->raw->interfaces[index].addresses[i], l->config->locals[other].interface);
        l->config->locals[l->config->local_count++] = (struct local_address){
            .address = own->address,
            .interface = (uint16_t)index,
            .mtu = interface->mtu,
            .prefix = own->prefix,
        };
    }
}

/* The kernel's end of a tap is another host; it cannot share an address with us. */
static void check_host_conflicts(const struct loader *l, const struct place *interfaces,
                                 unsigned index)
{
    const struct config_interface *interface = &l->config->interfaces[index];
    struct place at = place_entry(interfaces, index);
    struct place list = place_key(&at, "host_addresses");

    for (unsigned i = 0; i < interface->host_address_count; i++) {
        const struct config_address *host = &interface->host_addresses[i];
        struct place entry = place_entry(&list, i);
        int local = is_set(host) ? loader_local(l, &host->address) : -1;

        if (local >= 0 && l->config->locals[local].interface != index)
            place_error(&entry, "\"%.80s\" is an address of interfaces[%u]; write another one",
                        l->raw->interfaces[index].host_addresses[i],
                        l->config->locals[local].interface);
    }
}

void load_interfaces(struct loader *l)
{
    struct config *config = l->config;
    struct place list = place_key(&l->root, "interfaces");
    unsigned addresses = 0;

    config->interfaces = loader_array(l, l->raw->interfaces_count, sizeof(*config->interfaces));
    if (!config->interfaces)
        return;
    config->interface_count = l->raw->interfaces_count;
    for (unsigned i = 0; i < config->interface_count; i++) {
        struct place at = place_entry(&list, i);

        read_interface(l, &at, i);
        addresses += config->interfaces[i].address_count;
    }
    config->locals = loader_array(l, addresses, sizeof(*config->locals));
    if (!config->locals)
        return;
    for (unsigned i = 0; i < config->interface_count; i++)
        add_locals(l, &list, i);
    for (unsigned i = 0; i < config->interface_count; i++)
        check_host_conflicts(l, &list, i);
}
