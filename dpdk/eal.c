#include "dpdk/eal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#define ARGUMENTS_MAX  (32 + 2 * 64)
#define ARGUMENT_BYTES 512

/* ---- the argument vector ---- */

struct arguments {
    int count;
    char *list[ARGUMENTS_MAX + 1];
    bool failed;
};

static void add(struct arguments *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct arguments *a, const char *format, ...)
{
    va_list values;
    char *text = NULL;

    va_start(values, format);
    if (a->count >= ARGUMENTS_MAX || vasprintf(&text, format, values) < 0)
        a->failed = true;
    else
        a->list[a->count++] = text;
    va_end(values);
}

static void arguments_free(struct arguments *a)
{
    for (int i = 0; i < a->count; i++)
        free(a->list[i]);
}

/* ---- memory ---- */

static uint64_t read_number(const char *path)
{
    FILE *f = fopen(path, "r");
    unsigned long long value = 0;

    if (!f)
        return 0;
    if (fscanf(f, "%llu", &value) != 1)
        value = 0;
    fclose(f);
    return value;
}

/* Bytes in free huge pages of all sizes. */
static uint64_t free_huge_bytes(void)
{
    static const char root[] = "/sys/kernel/mm/hugepages";
    DIR *dir = opendir(root);
    const struct dirent *entry;
    uint64_t total = 0;

    if (!dir)
        return 0;
    while ((entry = readdir(dir))) {
        char path[512];
        unsigned long long page_kb;

        if (sscanf(entry->d_name, "hugepages-%llukB", &page_kb) != 1)
            continue;
        snprintf(path, sizeof(path), "%s/%s/free_hugepages", root, entry->d_name);
        total += read_number(path) * page_kb * 1024;
    }
    closedir(dir);
    return total;
}

static int add_memory(struct arguments *a, const struct config *config)
{
    unsigned long long want_mb = config->memory_bytes >> 20;
    uint64_t have = config->huge_pages == CONFIG_HUGE_NEVER ? 0 : free_huge_bytes();
    bool huge = config->huge_pages != CONFIG_HUGE_NEVER && have >= config->memory_bytes;

    if (!huge && config->huge_pages == CONFIG_HUGE_ALWAYS) {
        fprintf(stderr,
                "%s: memory.huge_pages: always, but %llu MiB are free and memory.size is %llu MiB; "
                "reserve more: echo %llu > /proc/sys/vm/nr_hugepages\n",
                config->file, (unsigned long long)have >> 20, want_mb, (want_mb + 1) / 2 + 1);
        return -ENOMEM;
    }
    if (!huge && config->huge_pages == CONFIG_HUGE_AUTO)
        fprintf(stderr,
                "coapgw: running without huge pages: %llu MiB are free, memory.size is %llu MiB\n",
                (unsigned long long)have >> 20, want_mb);
    add(a, "-m");
    add(a, "%llu", want_mb);
    if (huge) {
        add(a, "--in-memory");
    } else { /* --in-memory and --no-huge exclude each other in DPDK 22.11 */
        add(a, "--no-huge");
        add(a, "--no-shconf");
    }
    return 0;
}

/* ---- cores ---- */

/* The CPUs that this process may use, highest first: CPU 0 is left to the control thread as long as
 * there are others. */
static unsigned allowed_cpus(uint16_t *cpus, unsigned room)
{
    cpu_set_t set;
    unsigned n = 0;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 0;
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && n < room; cpu--)
        if (CPU_ISSET(cpu, &set))
            cpus[n++] = (uint16_t)cpu;
    return n;
}

static bool cpu_allowed(const uint16_t *cpus, unsigned n, uint16_t cpu)
{
    for (unsigned i = 0; i < n; i++)
        if (cpus[i] == cpu)
            return true;
    return false;
}

static int add_cores(struct arguments *a, const struct config *config)
{
    uint16_t cpus[CPU_SETSIZE];
    unsigned n = allowed_cpus(cpus, CPU_SETSIZE);
    char text[2048];
    int at;

    if (n == 0)
        return -errno;
    if (config->cores_auto && config->workers > n)
        fprintf(stderr, "coapgw: %u workers share %u CPUs\n", config->workers, n);
    at = snprintf(text, sizeof(text), "0@(%u", cpus[n - 1]);
    for (unsigned i = n - 1; i-- > 0 && at < (int)sizeof(text) / 2;)
        at += snprintf(text + at, sizeof(text) - (size_t)at, ",%u", cpus[i]);
    at += snprintf(text + at, sizeof(text) - (size_t)at, ")");
    for (unsigned i = 0; i < config->workers; i++) {
        uint16_t cpu = config->cores_auto ? cpus[i % n] : config->cores[i];

        if (!cpu_allowed(cpus, n, cpu)) {
            fprintf(stderr, "%s: cores: this process may not use CPU %u; it may use %u of them\n",
                    config->file, cpu, n);
            return -EINVAL;
        }
        at += snprintf(text + at, sizeof(text) - (size_t)at, ",%u@%u", EAL_WORKER_LCORE(i), cpu);
    }
    add(a, "--lcores=%s", text);
    add(a, "--main-lcore=0");
    return 0;
}

/* ---- devices ---- */

const char *eal_device_name(const struct config_interface *interface, unsigned index,
                            char name[EAL_DEVICE_NAME_BYTES])
{
    static const char *const drivers[] = {[CONFIG_DEVICE_TAP] = "net_tap",
                                          [CONFIG_DEVICE_AF_XDP] = "net_af_xdp",
                                          [CONFIG_DEVICE_AF_PACKET] = "net_af_packet",
                                          [CONFIG_DEVICE_MEMIF] = "net_memif"};

    if (interface->device == CONFIG_DEVICE_PCI)
        snprintf(name, EAL_DEVICE_NAME_BYTES, "%s", interface->device_argument);
    else if (interface->device == CONFIG_DEVICE_VDEV)
        snprintf(name, EAL_DEVICE_NAME_BYTES, "%.*s", (int)strcspn(interface->device_argument, ","),
                 interface->device_argument);
    else
        snprintf(name, EAL_DEVICE_NAME_BYTES, "%s%u", drivers[interface->device], index);
    return name;
}

/* A socket file that nobody listens on any more is a dead process's: removed. A live one is an
 * error. */
static int clear_socket(const struct config *config, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, err;

    if (access(path, F_OK) != 0)
        return 0;
    fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (fd < 0)
        return -errno;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    err = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
    close(fd);
    if (err == ECONNREFUSED)
        return unlink(path) == 0 ? 0 : -errno;
    fprintf(stderr, "%s: device memif:%s: the socket %s\n", config->file, path,
            err == 0 ? "is in use by another process" : "is no memif socket; choose another path");
    return -EADDRINUSE;
}

static const char *separator(const char *options)
{
    return options && *options ? "," : "";
}

static int add_device(struct arguments *a, const struct config *config, unsigned index)
{
    const struct config_interface *i = &config->interfaces[index];
    unsigned queues = i->queues ? i->queues : config->workers;
    char name[EAL_DEVICE_NAME_BYTES];
    int err;

    eal_device_name(i, index, name);
    switch (i->device) {
    case CONFIG_DEVICE_TAP:
    case CONFIG_DEVICE_AF_XDP: /* one queue, unless the options or `queues` ask for more */
        add(a, "--vdev=%s,iface=%s%s%s", name, i->device_argument, separator(i->device_options),
            i->device_options);
        break;
    case CONFIG_DEVICE_AF_PACKET:
        add(a, "--vdev=%s,iface=%s,qpairs=%u%s%s", name, i->device_argument, queues,
            separator(i->device_options), i->device_options);
        break;
    case CONFIG_DEVICE_MEMIF:
        err = clear_socket(config, i->device_argument);
        if (err)
            return err;
        add(a, "--vdev=%s,role=server,socket=%s,socket-abstract=no%s%s", name, i->device_argument,
            separator(i->device_options), i->device_options);
        break;
    case CONFIG_DEVICE_PCI:
        add(a, "--allow=%s%s%s", i->device_argument, separator(i->device_options),
            i->device_options);
        break;
    case CONFIG_DEVICE_VDEV:
        add(a, "--vdev=%s", i->device_argument);
        break;
    }
    return 0;
}

static int add_devices(struct arguments *a, const struct config *config)
{
    bool pci = false;

    for (unsigned i = 0; i < config->interface_count; i++) {
        int err = add_device(a, config, i);

        if (err)
            return err;
        pci |= config->interfaces[i].device == CONFIG_DEVICE_PCI;
    }
    if (!pci)
        add(a, "--no-pci");
    return 0;
}

/* ---- the runtime directory ---- */

/* systemd gives several directories as "a:b", which DPDK would take for one path. */
static int choose_runtime_directory(void)
{
    const char *list = getenv("RUNTIME_DIRECTORY");
    char *first;
    int err;

    if (!list || !strchr(list, ':'))
        return 0;
    first = strndup(list, strcspn(list, ":"));
    err = first && setenv("RUNTIME_DIRECTORY", first, true) == 0 ? 0 : -ENOMEM;
    free(first);
    return err;
}

/* True for the directory's name of a process of this instance that has ended, or of this one. */
static bool is_left_over(const char *name, const char *instance)
{
    size_t length = strlen(instance);
    char *end;
    long pid;

    if (strncmp(name, instance, length) != 0 || name[length] != '-' || name[length + 1] < '1' ||
        name[length + 1] > '9')
        return false;
    pid = strtol(name + length + 1, &end, 10);
    return !*end && pid <= INT32_MAX &&
           (pid == getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH));
}

/* DPDK makes a directory for each process, which stays empty since nothing is shared. Removed at
 * once it is not left behind by a process that is killed. Those of processes that were killed
 * earlier than this go with it; what holds any file stays. */
static void remove_runtime_directories(const struct config *config)
{
    const char *own = rte_eal_get_runtime_dir();
    char parent[512];
    char *slash;
    const struct dirent *entry;
    DIR *dir;

    snprintf(parent, sizeof(parent), "%s", own ? own : "");
    slash = strrchr(parent, '/');
    if (!slash)
        return;
    *slash = '\0';
    dir = opendir(parent);
    while (dir && (entry = readdir(dir)))
        if (is_left_over(entry->d_name, config->instance))
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    if (dir)
        closedir(dir);
}

/* ---- start and end ---- */

static int build(struct arguments *a, const struct config *config)
{
    int err;

    add(a, "coapgw");
    add(a, "--file-prefix=%s-%d", config->instance, (int)getpid());
    add(a, "--no-telemetry");
    add(a, "--log-level=warning");
    add(a, "--log-level=lib.eal:error");        /* it warns of harmless things of its own */
    add(a, "--log-level=pmd.net.tap:critical"); /* and so does the TAP driver: no multiq, no
                                                   rte_flow */
    err = add_cores(a, config);
    if (!err)
        err = add_memory(a, config);
    if (!err)
        err = add_devices(a, config);
    return err ? err : a->failed ? -ENOMEM : 0;
}

int eal_start(const struct config *config)
{
    struct arguments a = {0};
    int err = build(&a, config);
    char *argv[ARGUMENTS_MAX + 1]; /* rte_eal_init() writes into it */

    if (!err)
        err = choose_runtime_directory();
    if (!err) {
        memcpy(argv, a.list, sizeof(argv));
        rte_openlog_stream(stderr);
        if (rte_eal_init(a.count, argv) < 0) {
            err = rte_errno ? -rte_errno : -EIO;
            fprintf(stderr, "coapgw: DPDK does not start: %s\n", rte_strerror(-err));
        }
        remove_runtime_directories(config);
    }
    arguments_free(&a); /* rte_eal_init() keeps copies */
    return err;
}

void eal_stop(void)
{
    rte_eal_cleanup();
}
