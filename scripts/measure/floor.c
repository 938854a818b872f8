// The floor: the system calls that one container costs, and nothing else.
//
// A container runtime reads JSON, checks it, keeps state, prints good errors. The kernel does the rest, and its share is the limit of what
// any runtime can reach. This program is that share: it knows its one container by heart. It is no runtime: nothing is
// checked, an error ends it with a line, and what it has made by then stays.
//
//   gcc -O2 -o floor floor.c
//   floor [OPTIONS] run NAME                 make a container, execute /bin/true in it, wait, take it away
//   floor [OPTIONS] create|start|delete PATH the same in three commands, around /bin/sleep; PATH and PATH.pid are its state
//   floor [OPTIONS] exec PID [NAME]          execute /bin/true in the container whose first process this is; NAME: in its cgroups
//   floor nothing                            the price of a process that does nothing
//
//   -r DIR    the root file system, with bin/true, bin/sleep, proc, sys, dev
//   -2        cgroup v2 at /sys/fs/cgroup, instead of v1's hierarchies
//   -d        Docker's rights, masks and filter, instead of those that `spec` writes
//   -l        limits of memory, processes and processor time
//   -p        on v2, a device program too: what runtimes load instead of v1's devices.deny
//   -m KIB    memory limit on v1
//   -b N, -e N, -f N      N bind mounts (from DIR/m/0 to DIR/m/1, 2, …), N variables, a filter of N rules
//   -t        a time line on standard error: microseconds since the start, microseconds taken, who, step

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static struct {
    const char *root, *memory;
    int v2, docker, limits, device_program, trace;
    int binds, variables, rules;
} want;

// ---- Errors and the time line ----------------------------------------------------------------------------------------

static void die(const char *call) {
    dprintf(2, "floor: %s: %s\n", call, strerror(errno));
    _exit(1);
}

// A call that must not fail, shown with its own text when it does.
#define must(call) ({ long result_ = (long)(call); if (result_ < 0) die(#call); result_; })

// Both processes write their marks into one page that they share: a write to a file for each step would be measured too.
static struct { unsigned used; struct { uint64_t ns; const char *who, *step; } at[120]; } *marks;
static const char *who = "parent";

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void mark(const char *step) {
    if (!marks) return;
    unsigned n = __atomic_fetch_add(&marks->used, 1, __ATOMIC_RELAXED);
    if (n < 120) { marks->at[n].who = who; marks->at[n].step = step; marks->at[n].ns = now(); }
}

static void print_marks(void) {
    // A step has taken the time since the last mark of the same process. The first of each only says when it began.
    uint64_t last[2] = {0, 0};
    for (unsigned n = 0; marks && n < marks->used && n < 120; n++) {
        uint64_t at = marks->at[n].ns, *before = &last[*marks->at[n].who == 'c'];
        if (*before) dprintf(2, "%9.1f %9.1f  %-6s  %s\n", (*before - marks->at[0].ns) / 1e3, (at - *before) / 1e3, marks->at[n].who, marks->at[n].step);
        *before = at;
    }
}

// ---- cgroups ---------------------------------------------------------------------------------------------------------

// v1's hierarchies differ from host to host: scripts/bench names those of this one.
#ifndef HIERARCHIES
#define HIERARCHIES "pids", "blkio", "freezer", "devices", "memory", "cpuset", "cpuacct", "cpu"
#endif
static const char *const hierarchies[] = {HIERARCHIES};
enum { V1 = sizeof hierarchies / sizeof *hierarchies };
static int group[V1];   // each cgroup's directory; on v2 only the first

// Two controllers may share one, as in `cpu,cpuacct`.
static int has(const char *hierarchy, const char *controller) {
    size_t length = strlen(controller);
    return !strncmp(hierarchy, controller, length) && (!hierarchy[length] || hierarchy[length] == ',');
}

static void put(int dir, const char *file, const char *text) {
    int fd = must(openat(dir, file, O_WRONLY | O_CLOEXEC));
    if (write(fd, text, strlen(text)) < 0) die(file);
    close(fd);
}

// v1's devices file takes one rule for each write. First none may be used, then what every container may.
static void allow_devices(int dir) {
    static const char *const ALLOWED[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:5 rwm",
                                          "c 1:9 rwm", "c 136:* rwm", "c 5:2 rwm"};
    put(dir, "devices.deny", "a");
    int fd = must(openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC));
    for (unsigned i = 0; i < sizeof ALLOWED / sizeof *ALLOWED; i++) must(write(fd, ALLOWED[i], strlen(ALLOWED[i])));
    close(fd);
}

static void make_groups_v1(const char *name) {
    for (int i = 0; i < V1; i++) {
        const char *kind = hierarchies[i];
        char path[160];
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", kind, name);
        must(mkdir(path, 0755));
        int dir = group[i] = must(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
        // A new cpuset is empty, and nobody can enter it.
        if (has(kind, "cpuset")) {
            char processors[64] = {0};
            int all = must(open("/sys/fs/cgroup/cpuset/cpuset.cpus", O_RDONLY | O_CLOEXEC));
            must(read(all, processors, sizeof processors - 1));
            close(all);
            put(dir, "cpuset.cpus", processors);
            put(dir, "cpuset.mems", "0");
        }
        if (has(kind, "devices")) allow_devices(dir);
        if (has(kind, "memory") && want.limits) put(dir, "memory.limit_in_bytes", "268435456");
        if (has(kind, "memory") && want.memory) put(dir, "memory.limit_in_bytes", want.memory);
        if (has(kind, "pids") && want.limits) put(dir, "pids.max", "200");
        if (has(kind, "cpu") && want.limits) {
            put(dir, "cpu.shares", "512");
            put(dir, "cpu.cfs_period_us", "100000");
            put(dir, "cpu.cfs_quota_us", "100000");
        }
        mark(kind);
    }
}

// On v2 a program decides about every open of a device. This one says yes: what costs is to load and attach it.
static void attach_device_program(int dir) {
    struct bpf_insn yes[2] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = 2, .insns = (uintptr_t)yes, .license = (uintptr_t) "GPL"};
    int program = must(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    union bpf_attr attach = {.target_fd = dir, .attach_bpf_fd = program, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
    must(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(program);
    mark("device program");
}

static void make_group_v2(const char *name) {
    char path[160];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
    must(mkdir(path, 0755));
    group[0] = must(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (want.limits) {
        put(group[0], "memory.max", "268435456");
        put(group[0], "pids.max", "200");
        put(group[0], "cpu.weight", "20");
        put(group[0], "cpu.max", "100000 100000");
    }
    mark("cgroup");
    if (want.device_program) attach_device_program(group[0]);
}

// `0` is whoever writes. `tasks` moves one thread: `cgroup.procs` locks out every fork of the machine, and waits for the
// kernel's grace period to do so. On v2 the clone itself goes into the cgroup.
static void enter_groups_v1(void) {
    for (int i = 0; i < V1; i++) put(group[i], "tasks", "0");
    mark("enter cgroups");
}

static void remove_groups(const char *name) {
    for (int i = 0; i < (want.v2 ? 1 : V1); i++) {
        char path[160];
        if (want.v2) snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        else snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
        // The last process may have been reaped a little before it has left its cgroup.
        for (int tries = 0; rmdir(path) < 0; tries++) {
            if (errno != EBUSY || tries > 5000) die(path);
            usleep(100);
        }
    }
    mark("remove cgroups");
}

// ---- Mounts ----------------------------------------------------------------------------------------------------------

enum { QUIET = MS_NOSUID | MS_NOEXEC | MS_NODEV };

// A read-only bind takes two calls: the first ignores the flag.
static int bind_read_only(const char *from, const char *to) {
    if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0) return -1;
    must(mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | QUIET, NULL));
    return 0;
}

static void mount_cgroups(const char *name) {
    if (want.v2) {
        must(mount("cgroup", "sys/fs/cgroup", "cgroup2", QUIET | MS_RDONLY, NULL));
        return;
    }
    must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", QUIET, "mode=755"));
    for (int i = 0; i < V1; i++) {
        char from[160], to[160];
        snprintf(from, sizeof from, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
        snprintf(to, sizeof to, "sys/fs/cgroup/%s", hierarchies[i]);
        must(mkdir(to, 0755));
        must(bind_read_only(from, to));
    }
}

static void make_devices(void) {
    static const struct { const char *name; int major, minor; } NODES[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const LINKS[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                           {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    mode_t old = umask(0);
    for (unsigned i = 0; i < sizeof NODES / sizeof *NODES; i++)
        must(mknod(NODES[i].name, S_IFCHR | 0666, makedev(NODES[i].major, NODES[i].minor)));
    umask(old);
    for (unsigned i = 0; i < sizeof LINKS / sizeof *LINKS; i++) must(symlink(LINKS[i][0], LINKS[i][1]));
}

static void make_root(const char *name) {
    // Without this, what is mounted here would show up on the host.
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    // pivot_root wants a mount, and the root file system is a directory.
    must(mount(want.root, want.root, NULL, MS_BIND | MS_REC, NULL));
    must(chdir(want.root));
    mark("root");
    must(mount("proc", "proc", "proc", QUIET, NULL));
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    must(mkdir("dev/pts", 0755));
    must(mkdir("dev/shm", 0755));
    must(mkdir("dev/mqueue", 0755));
    must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    must(mount("shm", "dev/shm", "tmpfs", QUIET, "mode=1777,size=65536k"));
    must(mount("mqueue", "dev/mqueue", "mqueue", QUIET, NULL));
    must(mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY, NULL));
    mark("mounts");
    mount_cgroups(name);
    for (int i = 1; i <= want.binds; i++) {
        char to[32];
        snprintf(to, sizeof to, "m/%d", i);
        must(mount("m/0", to, NULL, MS_BIND | MS_REC, NULL));
    }
    mark("mount cgroups");
    make_devices();
    mark("devices");
    // The old root comes to lie on top of the new one, and is taken away from there: no directory is needed for it.
    int old = must(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(syscall(SYS_pivot_root, ".", "."));
    must(umount2(".", MNT_DETACH));
    must(chdir("/"));
    close(old);
    mark("pivot");
}

static void hide_paths(void) {
    static const char *const READ_ONLY[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    // Docker's two more are at the end.
    static const char *const MASKED[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                         "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
                                         "/proc/interrupts", "/sys/devices/virtual/powercap"};
    for (unsigned i = 0; i < sizeof READ_ONLY / sizeof *READ_ONLY; i++) bind_read_only(READ_ONLY[i], READ_ONLY[i]);
    mark("read-only paths");
    // What kind of thing the path is, the mount says: a stat would be one more call for each.
    for (int i = 0; i < (want.docker ? 12 : 10); i++)
        if (mount("/dev/null", MASKED[i], NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
            must(mount("tmpfs", MASKED[i], "tmpfs", MS_RDONLY, "size=0k"));
    mark("masked paths");
    if (!want.docker) must(mount(NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
}

// ---- Rights ----------------------------------------------------------------------------------------------------------

enum { LAST_CAPABILITY = CAP_CHECKPOINT_RESTORE };

static void drop_rights(int docker) {
    const uint32_t few = 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_AUDIT_WRITE;
    const uint32_t dockers = few | 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FSETID | 1u << CAP_FOWNER | 1u << CAP_MKNOD |
        1u << CAP_NET_RAW | 1u << CAP_SETGID | 1u << CAP_SETUID | 1u << CAP_SETFCAP | 1u << CAP_SETPCAP | 1u << CAP_SYS_CHROOT;
    uint32_t kept = docker ? dockers : few;
    for (int i = 0; i <= LAST_CAPABILITY; i++)
        if (i > 31 || !(kept >> i & 1)) must(prctl(PR_CAPBSET_DROP, i, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{kept, kept, 0}, {0, 0, 0}};
    must(syscall(SYS_capset, &header, sets));
    mark("capabilities");
}

// Docker's filter. FILTER names a file with the instructions, which scripts/bench writes from the table of system calls:
// the floor shall not depend on the compiler that it is compared with.
static struct sock_filter filter[] = {
#ifdef FILTER
#include FILTER
#else
    {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
#endif
};

static void install(struct sock_filter *program, unsigned length) {
    struct sock_fprog all = {.len = length, .filter = program};
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all));
    mark("seccomp");
}

// N rules in the plainest form: is it this number, and this first argument? Then no.
static void install_rules(int count) {
    enum { MOST = 800 };   // a program has at most 4096 instructions
    static struct sock_filter program[5 * MOST + 1];
    struct sock_filter *next = program;
    const uint32_t number = offsetof(struct seccomp_data, nr), argument = offsetof(struct seccomp_data, args);
    for (int i = 0; i < count && i < MOST; i++) {
        *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number);
        *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 100 + i % 100, 0, 3);
        *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument);
        *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1000000 + i, 0, 1);
        *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    install(program, next - program);
}

// ---- The container's first process -----------------------------------------------------------------------------------

static void execute(const char *program) {
    char *arguments[] = {(char *)program, "100000", NULL}, *plain[] = {"PATH=/bin", NULL}, **variables = plain;
    if (!strcmp(program, "/bin/true")) arguments[1] = NULL;
    if (want.variables) {
        variables = calloc(want.variables + 1, sizeof *variables);
        for (int i = 0; i < want.variables; i++) must(asprintf(&variables[i], "VARIABLE_%d=a value of some length", i));
    }
    mark("execve");
    execve(program, arguments, variables);
    die(program);
}

// ready: where `create` waits, or -1; gate: the fifo that `start` opens.
static void first_process(const char *name, const char *program, int ready, int gate) {
    who = "child";
    mark("clone");
    if (!want.v2) enter_groups_v1();
    make_root(name);
    hide_paths();
    must(sethostname("floor", 5));
    drop_rights(want.docker);
    struct rlimit files = {1024, 1024};
    if (!want.docker) must(setrlimit(RLIMIT_NOFILE, &files));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */));
    if (ready >= 0) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", gate);
        must(write(ready, "", 1));
        // Opening a fifo waits for the other end. execve closes it: so `start` learns that the program runs.
        must(open(path, O_RDONLY | O_CLOEXEC));
    }
    if (want.docker) install(filter, sizeof filter / sizeof *filter);
    if (want.rules) install_rules(want.rules);
    execute(program);
}

static pid_t begin(const char *name, const char *program, int ready, int gate) {
    mark("begin");
    if (want.v2) make_group_v2(name);
    else make_groups_v1(name);
    // All namespaces in the one call that makes the process; each unshare or setns afterwards would cost a call.
    struct clone_args new = {.exit_signal = SIGCHLD,
                             .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET};
    if (want.v2) {
        new.flags |= CLONE_NEWCGROUP | CLONE_INTO_CGROUP;
        new.cgroup = group[0];
    }
    pid_t child = must(syscall(SYS_clone3, &new, sizeof new));
    if (child == 0) first_process(name, program, ready, gate);
    mark("cloned");
    return child;
}

static int run(const char *name) {
    int status;
    pid_t child = begin(name, "/bin/true", -1, -1);
    must(waitpid(child, &status, 0));
    mark("reaped");
    remove_groups(name);
    print_marks();
    return status != 0;
}

// ---- The same in three commands --------------------------------------------------------------------------------------

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int create(const char *path) {
    int ready[2];
    char byte, pid[16], file[200];
    must(mkfifo(path, 0600));
    int gate = must(open(path, O_PATH | O_CLOEXEC));
    must(pipe2(ready, O_CLOEXEC));
    pid_t child = begin(last_part(path), "/bin/sleep", ready[1], gate);
    close(ready[1]);
    // No byte: the child has died, and has said why.
    if (must(read(ready[0], &byte, 1)) != 1) return 1;
    mark("ready");
    snprintf(file, sizeof file, "%s.pid", path);
    int fd = must(open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    must(write(fd, pid, snprintf(pid, sizeof pid, "%d", child)));
    print_marks();
    return 0;
}

static int start(const char *path) {
    struct pollfd gate = {.fd = must(open(path, O_WRONLY | O_CLOEXEC))};
    must(poll(&gate, 1, 10000));   // POLLERR: nobody reads any more
    return !(gate.revents & POLLERR);
}

static int delete(const char *path) {
    char pid[16] = {0}, file[200];
    snprintf(file, sizeof file, "%s.pid", path);
    int fd = must(open(file, O_RDONLY | O_CLOEXEC));
    must(read(fd, pid, sizeof pid - 1));
    struct pollfd process = {.fd = must(syscall(SYS_pidfd_open, atoi(pid), 0)), .events = POLLIN};
    must(syscall(SYS_pidfd_send_signal, process.fd, SIGKILL, NULL, 0));
    must(poll(&process, 1, 10000));
    remove_groups(last_part(path));
    unlink(file);
    unlink(path);
    return 0;
}

// ---- Another process in it -------------------------------------------------------------------------------------------

// Without a name it joins no cgroup and has no filter: the least that can be called another process in the container. With the name it is in the
// container's cgroups, and with -d it has the filter: what every runtime owes.
static int exec(const char *pid, const char *name) {
    int process = must(syscall(SYS_pidfd_open, atoi(pid), 0)), status;
    mark("begin");
    for (int i = 0; name && i < (want.v2 ? 1 : V1); i++) {
        char path[160];
        if (want.v2) snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        else snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s/tasks", hierarchies[i], name);
        group[i] = must(open(path, (want.v2 ? O_PATH : O_WRONLY) | O_CLOEXEC));
    }
    must(setns(process, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS));
    mark("setns");
    struct clone_args new = {.exit_signal = SIGCHLD, .flags = CLONE_INTO_CGROUP, .cgroup = group[0]};
    pid_t child = name && want.v2 ? syscall(SYS_clone3, &new, sizeof new) : vfork();
    if (child == 0) {
        who = "child";
        for (int i = 0; name && !want.v2 && i < V1; i++) must(write(group[i], "0", 1));
        drop_rights(want.docker);
        must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        if (name && want.docker) install(filter, sizeof filter / sizeof *filter);
        execute("/bin/true");
    }
    must(child);
    must(waitpid(child, &status, 0));
    who = "parent";
    mark("reaped");
    print_marks();
    return status != 0;
}

int main(int count, char **words) {
    static char bytes[24];
    int option;
    while ((option = getopt(count, words, "r:2dlpm:b:e:f:t")) > 0) switch (option) {
        case 'r': want.root = optarg; break;
        case '2': want.v2 = 1; break;
        case 'd': want.docker = 1; break;
        case 'l': want.limits = 1; break;
        case 'p': want.device_program = 1; break;
        case 'm': snprintf(bytes, sizeof bytes, "%s", optarg), want.memory = strcat(bytes, "K"); break;
        case 'b': want.binds = atoi(optarg); break;
        case 'e': want.variables = atoi(optarg); break;
        case 'f': want.rules = atoi(optarg); break;
        case 't': want.trace = 1; break;
        default: return 2;
    }
    const char *verb = optind < count ? words[optind] : "", *object = optind + 1 < count ? words[optind + 1] : NULL;
    if (want.trace) {
        marks = mmap(NULL, sizeof *marks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (marks == MAP_FAILED) die("mmap");
    }
    if (!strcmp(verb, "nothing")) return 0;
    if (!strcmp(verb, "run") && want.root && object) return run(object);
    if (!strcmp(verb, "create") && want.root && object) return create(object);
    if (!strcmp(verb, "start") && object) return start(object);
    if (!strcmp(verb, "delete") && object) return delete(object);
    if (!strcmp(verb, "exec") && object) return exec(object, optind + 2 < count ? words[optind + 2] : NULL);
    dprintf(2, "usage: floor [-r DIR] [-2dlpt] [-m KIB] [-b N] [-e N] [-f N] run NAME | create PATH | start PATH | delete PATH | exec PID [NAME] | nothing\n");
    return 2;
}
