/* A disk that fails when a test wants it to: preloaded into a sweep and into all its processes.

   The calls that change something below one folder are numbered over the whole process tree, and
   from the first to be hit on, one or all of them fail, or a signal is sent instead. What is to
   happen stands in a file that the test has mapped too, named by LENET_FAULTS; tests/processes.py
   lays it out. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define EVERY 1      /* the call to be hit and all after it; else that one alone */
#define OLD_FILES 2  /* opening or removing a file that is there counts too: a full disk lets one */

struct plan {
    _Atomic int64_t calls; /* so far */
    _Atomic int64_t hits;  /* of them */
    int64_t first;         /* number of the call to be hit, from 1; 0: none */
    int64_t flags;
    int64_t error;         /* an errno for it to fail with; 0: none */
    int64_t signal;        /* a signal to be sent before it is done; 0: none */
    int64_t target;        /* to this process; 0: to the one that calls */
    char what[512];        /* the first call hit and its path, for the test's message */
    char folder[1024];
};

static struct plan *plan;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("LENET_FAULTS");
    int file = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (mapped != MAP_FAILED) plan = mapped;
}

/* 0, or where the call is to fail, with errno set: 1 for the first of them, 2 for another. */
static int hit(const char *call, const char *path) {
    size_t length = strlen(plan->folder);
    if (strstr(path, "/events.jsonl")) return 0; /* a sweep does not notice that it cannot write it */
    if (!length || strncmp(path, plan->folder, length) || (path[length] && path[length] != '/'))
        return 0;
    int64_t number = atomic_fetch_add(&plan->calls, 1) + 1;
    if (!plan->first || number < plan->first) return 0;
    if (number > plan->first && !(plan->flags & EVERY)) return 0;
    if (atomic_fetch_add(&plan->hits, 1) == 0)
        snprintf(plan->what, sizeof plan->what, "%s %s", call, path);
    if (plan->signal) {
        pid_t target = plan->target ? (pid_t)plan->target : getpid();
        syscall(SYS_kill, target, (int)plan->signal);
    }
    if (!plan->error) return 0;
    errno = (int)plan->error;
    return number == plan->first ? 1 : 2;
}

static int hit_at(const char *call, int folder, const char *path) {
    char full[4096], link[64];
    if (!plan || !path) return 0;
    if (path[0] == '/') return hit(call, path);
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, full, sizeof full - 1);
    if (length < 0) return 0;
    snprintf(full + length, sizeof full - (size_t)length, "/%s", path);
    return hit(call, full);
}

static int hit_file(const char *call, int file) {
    char full[4096], link[64];
    if (!plan) return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, full, sizeof full - 1);
    errno = before;
    if (length < 0 || full[0] != '/') return 0; /* a pipe or a socket */
    full[length] = 0;
    return hit(call, full);
}

static int is_there(int folder, const char *path) {
    int before = errno;
    int found = syscall(SYS_faccessat, folder, path, F_OK) == 0;
    errno = before;
    return found;
}

/* ------------------------------------------------------------ the calls */

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if ((flags & O_TMPFILE) == O_TMPFILE) changes = 0; /* without a name: nobody sees it */
    int counts = plan && changes && (plan->flags & OLD_FILES || !is_there(folder, path));
    if (counts && hit_at("open", folder, path)) return -1;
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#define MODE(flags, last)                                        \
    mode_t mode = 0;                                             \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                     \
        va_list arguments;                                       \
        va_start(arguments, last);                               \
        mode = va_arg(arguments, mode_t);                        \
        va_end(arguments);                                       \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return opened(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return opened(folder, path, flags | O_LARGEFILE, mode);
}

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

ssize_t write(int file, const void *data, size_t count) {
    int failed = hit_file("write", file);
    if (failed) {
        if (failed == 2 || !(plan->flags & EVERY) || plan->error != ENOSPC) return -1;
        count /= 2; /* what still fits on a disk that becomes full; the next call says it is */
    }
    return syscall(SYS_write, file, data, count);
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at) {
    if (hit_file("pwrite", file)) return -1;
    return syscall(SYS_pwrite64, file, data, count, at);
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t at) {
    if (hit_file("pwrite", file)) return -1;
    return syscall(SYS_pwrite64, file, data, count, at);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (hit_file("writev", file)) return -1;
    return syscall(SYS_writev, file, parts, count);
}

int fsync(int file) {
    if (hit_file("fsync", file)) return -1;
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    if (hit_file("fdatasync", file)) return -1;
    return (int)syscall(SYS_fdatasync, file);
}

int renameat2(int folder, const char *path, int to, const char *name, unsigned flags) {
    if (hit_at("rename", to, name)) return -1;
    return (int)syscall(SYS_renameat2, folder, path, to, name, flags);
}

int renameat(int folder, const char *path, int to, const char *name) {
    return renameat2(folder, path, to, name, 0);
}

int rename(const char *path, const char *name) {
    return renameat2(AT_FDCWD, path, AT_FDCWD, name, 0);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    if (plan && !is_there(folder, path) && hit_at("mkdir", folder, path)) return -1;
    return (int)syscall(SYS_mkdirat, folder, path, mode);
}

int mkdir(const char *path, mode_t mode) {
    return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int folder, const char *path, int flags) {
    int counts = plan && (plan->flags & OLD_FILES) && is_there(folder, path);
    if (counts && hit_at("unlink", folder, path)) return -1;
    return (int)syscall(SYS_unlinkat, folder, path, flags);
}

int unlink(const char *path) {
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
