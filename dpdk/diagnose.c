#include "dpdk/diagnose.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (1u << (capability))

static const char tun_path[] = "/dev/net/tun";

/* Asks for the TAP as DPDK does. 0, or the errno that tells why not; `opened` says how far it went.
 */
static int try_tap(const char *name, bool *opened)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
    int fd = open(tun_path, O_RDWR | O_CLOEXEC), err;

    *opened = fd >= 0;
    if (fd < 0)
        return errno;
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    err = ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : errno;
    close(fd);
    return err;
}

static void diagnose_tap(const struct config_interface *interface, char *text)
{
    const char *name = interface->device_argument;
    bool opened;
    int err = try_tap(name, &opened);

    if (!opened)
        snprintf(text, DIAGNOSE_BYTES,
                 "%s: %s: load the module tun, or give the container this device", tun_path,
                 strerror(err));
    else if (err == EPERM)
        snprintf(text, DIAGNOSE_BYTES, "a TAP needs CAP_NET_ADMIN");
    else if (err == EBUSY)
        snprintf(text, DIAGNOSE_BYTES, "another process has the TAP %s: choose another name", name);
    else if (err == EINVAL)
        snprintf(text, DIAGNOSE_BYTES,
                 "there is an interface %s that is no multi-queue TAP: choose another name", name);
    else if (err)
        snprintf(text, DIAGNOSE_BYTES, "%s", strerror(err));
    else
        snprintf(text, DIAGNOSE_BYTES, "the kernel offers the TAP %s, but the driver refuses%s%s",
                 name, *interface->device_options ? " the options " : "",
                 interface->device_options);
}

/* True when this process has all of these capabilities (those below 32). */
static bool holds(uint32_t wanted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & wanted) == wanted;
}

/* 0, or the errno that a socket of this family is refused with. */
static int try_socket(int family)
{
    int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, 0), err = errno;

    if (fd < 0)
        return err;
    close(fd);
    return 0;
}

static void diagnose_kernel(const struct config_interface *interface, char *text)
{
    uint32_t packet = BIT(CAP_NET_ADMIN) | BIT(CAP_NET_RAW);
    uint32_t all = packet | BIT(CAP_IPC_LOCK) | BIT(CAP_SYS_ADMIN);
    bool xdp = interface->device == CONFIG_DEVICE_AF_XDP;
    const char *name = interface->device_argument;
    int err = try_socket(xdp ? AF_XDP : AF_PACKET);

    if (if_nametoindex(name) == 0)
        snprintf(text, DIAGNOSE_BYTES, "the kernel has no interface %s: see ip link", name);
    else if (err == EAFNOSUPPORT)
        snprintf(text, DIAGNOSE_BYTES, "this kernel has no %s sockets",
                 xdp ? "AF_XDP" : "AF_PACKET");
    else if (xdp && !holds(all))
        snprintf(text, DIAGNOSE_BYTES,
                 "AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_ADMIN");
    else if (!xdp && !holds(packet))
        snprintf(text, DIAGNOSE_BYTES, "AF_PACKET needs CAP_NET_ADMIN and CAP_NET_RAW");
    else
        snprintf(text, DIAGNOSE_BYTES, "the driver's own lines above say why");
}

const char *diagnose_device(const struct config_interface *interface, char text[DIAGNOSE_BYTES])
{
    switch (interface->device) {
    case CONFIG_DEVICE_TAP:
        diagnose_tap(interface, text);
        break;
    case CONFIG_DEVICE_AF_PACKET:
    case CONFIG_DEVICE_AF_XDP:
        diagnose_kernel(interface, text);
        break;
    case CONFIG_DEVICE_PCI:
        snprintf(text, DIAGNOSE_BYTES,
                 "is it bound to a driver that DPDK can use? see dpdk-devbind.py --status");
        break;
    case CONFIG_DEVICE_MEMIF:
    case CONFIG_DEVICE_VDEV:
        snprintf(text, DIAGNOSE_BYTES, "the driver's own lines above say why");
        break;
    }
    return text;
}

/* Asks the kernel for an interface's SIOCGIF... 0, or a negative errno. */
static int ask(const struct config_interface *interface, unsigned long what, struct ifreq *answer)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

    if (fd < 0)
        return -errno;
    memset(answer, 0, sizeof(*answer));
    snprintf(answer->ifr_name, sizeof(answer->ifr_name), "%s", interface->device_argument);
    err = ioctl(fd, what, answer) == 0 ? 0 : -errno;
    close(fd);
    return err;
}

bool diagnose_is_down(const struct config_interface *interface)
{
    struct ifreq answer;

    if (interface->device != CONFIG_DEVICE_AF_PACKET && interface->device != CONFIG_DEVICE_AF_XDP)
        return false;
    return ask(interface, SIOCGIFFLAGS, &answer) == 0 && !(answer.ifr_flags & IFF_UP);
}

unsigned diagnose_mtu(const struct config_interface *interface)
{
    struct ifreq answer;

    return ask(interface, SIOCGIFMTU, &answer) == 0 ? (unsigned)answer.ifr_mtu : 0;
}
