#include "dpdk/privilege.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))
#define WAIT_MS         1000

/* Linux keeps capabilities for each thread, and DPDK has started threads that know nothing of this.
 * So each thread that has too many gets a signal, whose handler gives them up. */
static _Atomic uint64_t kept; /* set before the first signal is sent, and constant then */

static uint64_t needed_by(enum config_device device)
{
    switch (device) {
    case CONFIG_DEVICE_TAP: /* its driver takes the link down */
        return BIT(CAP_NET_ADMIN);
    case CONFIG_DEVICE_AF_XDP: /* finds the XDP program of the interface and takes it away */
        return BIT(CAP_NET_ADMIN) | BIT(CAP_SYS_ADMIN);
    case CONFIG_DEVICE_AF_PACKET:
    case CONFIG_DEVICE_MEMIF:
        return 0;
    case CONFIG_DEVICE_PCI:
    case CONFIG_DEVICE_VDEV:
        break;
    }
    return BIT(CAP_NET_ADMIN) | BIT(CAP_NET_RAW) | BIT(CAP_IPC_LOCK) | BIT(CAP_SYS_ADMIN) |
           BIT(CAP_SYS_RAWIO); /* unknown drivers: what any of them uses */
}

static void give_up(int signal_number)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    int err = errno;

    (void)signal_number;
    /* As root, execve() would give all of them back. */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_capget, &header, data) == 0) {
        for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
            data[i].permitted &= (uint32_t)(kept >> (32 * i));
            data[i].effective &= data[i].permitted;
            data[i].inheritable = 0;
        }
        syscall(SYS_capset, &header, data);
    }
    errno = err;
}

/* What proc(5) says of a thread. One that is gone has nothing. */
static bool has_too_many(const char *thread)
{
    char path[64], line[256];
    unsigned long long permitted = 0;
    unsigned confined = 1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", thread);
    f = fopen(path, "re");
    if (!f)
        return errno != ENOENT && errno != ESRCH;
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "CapPrm: %llx", &permitted) != 1)
            (void)sscanf(line, "NoNewPrivs: %u", &confined);
    fclose(f);
    return (permitted & ~kept) || !confined;
}

/* Sends the signal to each thread that has too many. Their number, or a negative errno. */
static int tell_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    const struct dirent *entry;
    int found = 0;

    if (!dir)
        return -errno;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.' && has_too_many(entry->d_name)) {
            syscall(SYS_tgkill, getpid(), atoi(entry->d_name), SIGRTMIN);
            found++;
        }
    closedir(dir);
    return found;
}

/* Until nobody has too many, twice: a thread may have been born while the first list was read. */
static int tell_until_done(void)
{
    const struct timespec step = {.tv_nsec = 1000000};
    unsigned clean = 0;

    for (unsigned ms = 0; ms < WAIT_MS; ms++) {
        int found = tell_threads();

        if (found < 0)
            return found;
        clean = found ? 0 : clean + 1;
        if (clean == 2)
            return 0;
        if (found)
            nanosleep(&step, NULL);
    }
    return -ETIMEDOUT;
}

int privilege_drop(const struct config *config)
{
    struct sigaction action = {.sa_handler = give_up, .sa_flags = SA_RESTART};
    int err;

    kept = 0;
    for (unsigned i = 0; i < config->interface_count; i++)
        kept |= needed_by(config->interfaces[i].device);
    sigaction(SIGRTMIN, &action, NULL);
    err = tell_until_done();
    action.sa_handler = SIG_IGN; /* not the default: what is still pending would end the process */
    sigaction(SIGRTMIN, &action, NULL);
    if (err)
        fprintf(stderr, "coapgw: capabilities that are needed no more could not be given up: %s\n",
                err == -ETIMEDOUT ? "a thread does not react" : strerror(-err));
    return err;
}
