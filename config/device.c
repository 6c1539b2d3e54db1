/* The devices of interfaces: tap:NAME, pci:ADDRESS and so on. */
#include <ctype.h>

#include "config/loader.h"
#include "config/value.h"

#define KERNEL_NAME_MAX 15  /* IFNAMSIZ - 1 */
#define SOCKET_PATH_MAX 107 /* sizeof(sun_path) - 1 */
#define VDEV_NAME_MAX   63  /* RTE_DEV_NAME_MAX_LEN - 1 */

struct device_kind {
    const char *prefix;
    enum config_device device;
    bool (*is_valid)(const char *argument);
    const char *expected; /* what the argument has to be */
};

/* ---- arguments ---- */

static bool is_kernel_name(const char *text)
{
    return value_is_word(text, ".", KERNEL_NAME_MAX) && strcmp(text, ".") != 0 &&
           strcmp(text, "..") != 0;
}

static bool is_socket_path(const char *text)
{
    size_t length = strlen(text);

    return text[0] == '/' && length > 1 && length <= SOCKET_PATH_MAX && text[length - 1] != '/';
}

/* `count` hexadecimal digits; where they end, or NULL. */
static const char *skip_hex(const char *text, unsigned count)
{
    for (; count; count--, text++)
        if (!isxdigit((unsigned char)*text))
            return NULL;
    return text;
}

static bool is_pci_address(const char *text)
{
    const char *p = text;

    if (strlen(text) == strlen("DDDD:BB:DD.F")) {
        p = skip_hex(p, 4);
        if (!p || *p++ != ':')
            return false;
    }
    p = skip_hex(p, 2);
    if (!p || *p++ != ':')
        return false;
    p = skip_hex(p, 2);
    return p && p[0] == '.' && p[1] >= '0' && p[1] <= '7' && !p[2];
}

static bool is_vdev(const char *text)
{
    size_t name = strcspn(text, ",");

    for (size_t i = 0; i < name; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i]))
            return false;
    return name >= 1 && name <= VDEV_NAME_MAX && isalpha((unsigned char)text[0]);
}

static const struct device_kind kinds[] = {
    {"tap:", CONFIG_DEVICE_TAP, is_kernel_name, "tap:NAME with a name of 1 to 15 characters"},
    {"af_xdp:", CONFIG_DEVICE_AF_XDP, is_kernel_name,
     "af_xdp:IF with the name of an interface, 1 to 15 characters"},
    {"af_packet:", CONFIG_DEVICE_AF_PACKET, is_kernel_name,
     "af_packet:IF with the name of an interface, 1 to 15 characters"},
    {"memif:", CONFIG_DEVICE_MEMIF, is_socket_path,
     "memif:SOCKET with an absolute path of at most 107 bytes"},
    {"pci:", CONFIG_DEVICE_PCI, is_pci_address, "pci:DDDD:BB:DD.F or pci:BB:DD.F"},
    {"vdev:", CONFIG_DEVICE_VDEV, is_vdev, "vdev:ARGS with a driver's name, such as net_null0"},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- the device ---- */

static const struct device_kind *find_kind(const char *text)
{
    for (size_t i = 0; i < KINDS; i++)
        if (strncmp(text, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return &kinds[i];
    return NULL;
}

void device_read(struct loader *l, const struct place *interface, const char *text,
                 struct config_interface *out)
{
    const struct device_kind *kind = find_kind(text);
    char *comma = NULL;

    if (!kind) {
        key_error(interface, "device",
                  "\"%.80s\" is of no known kind; write tap:NAME, af_xdp:IF, af_packet:IF, "
                  "memif:SOCKET, pci:ADDRESS or vdev:ARGS",
                  text);
        return;
    }
    out->device = kind->device;
    out->device_argument = loader_text(l, text + strlen(kind->prefix));
    if (!out->device_argument)
        return;
    if (kind->device != CONFIG_DEVICE_VDEV)
        comma = strchr(out->device_argument, ',');
    if (comma)
        *comma++ = '\0';
    out->device_options = loader_text(l, comma);
    if (!kind->is_valid(out->device_argument))
        key_error(interface, "device", "\"%.120s\" is not a device; write %s", text,
                  kind->expected);
    else if (comma && !*comma)
        key_error(interface, "device", "\"%.120s\" ends with a comma; write options or remove it",
                  text);
}
