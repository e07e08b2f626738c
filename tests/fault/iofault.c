/* iofault.so: makes one chosen call on one chosen file fail, for tests that run the real binary under LD_PRELOAD.
 *
 * The environment says which:
 *   IOFAULT_CALL    write (any of write, pwrite, writev, pwritev), sync (fsync, fdatasync), or allocate (ftruncate, fallocate)
 *   IOFAULT_PATH    a piece of the file's path
 *   IOFAULT_AT      the Nth such call fails, counted from 1
 *   IOFAULT_ERRNO   with this errno
 *   IOFAULT_STICKY  1: so do all that follow; 0: only that one
 *   IOFAULT_SHORT   1: a write stores its first half and returns that count; what follows fails if sticky
 *   IOFAULT_ARM     counting begins when this file exists (empty: at once)
 *   IOFAULT_REPORT  this file is written when the fault happens: "<call> <path>"
 *
 * Only calls that go through the C library are seen. The shim itself takes no locks and allocates nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum call { CALL_WRITE, CALL_SYNC, CALL_ALLOCATE, CALL_NONE };
enum verdict { PASS, FAIL, SHORT };

static enum call wanted = CALL_NONE;
static const char *path_piece, *arm_file, *report_file;
static long fail_at;
static int fail_errno, sticky, short_write;
static atomic_long calls;
static atomic_int armed;

static const char *env_or(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

__attribute__((constructor)) static void setup(void) {
    const char *call = env_or("IOFAULT_CALL", "");
    path_piece = env_or("IOFAULT_PATH", NULL);
    arm_file = env_or("IOFAULT_ARM", NULL);
    report_file = env_or("IOFAULT_REPORT", NULL);
    fail_at = atol(env_or("IOFAULT_AT", "1"));
    fail_errno = atoi(env_or("IOFAULT_ERRNO", "5"));
    sticky = atoi(env_or("IOFAULT_STICKY", "0"));
    short_write = atoi(env_or("IOFAULT_SHORT", "0"));
    armed = arm_file == NULL;
    if (!path_piece) return;
    if (!strcmp(call, "write")) wanted = CALL_WRITE;
    if (!strcmp(call, "sync")) wanted = CALL_SYNC;
    if (!strcmp(call, "allocate")) wanted = CALL_ALLOCATE;
}

static void report(const char *path) {
    static const char *names[] = {"write ", "sync ", "allocate "};
    if (!report_file) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, report_file, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0) return;
    (void)!syscall(SYS_write, fd, names[wanted], strlen(names[wanted]));
    (void)!syscall(SYS_write, fd, path, strlen(path));
    syscall(SYS_close, fd);
}

static enum verdict judge(enum call call, int fd) {
    if (call != wanted) return PASS;
    int kept = errno;
    if (!armed) {
        if (access(arm_file, F_OK) != 0) {
            errno = kept;
            return PASS;
        }
        armed = 1;
    }
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (n < 0) return PASS;
    path[n] = 0;
    if (!strstr(path, path_piece)) return PASS;
    long count = atomic_fetch_add(&calls, 1) + 1;
    if (count < fail_at || (count > fail_at && !sticky)) return PASS;
    if (count == fail_at) report(path);
    if (count == fail_at && short_write && call == CALL_WRITE) return SHORT;
    errno = fail_errno;
    return FAIL;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    enum verdict v = judge(CALL_WRITE, fd);
    return v == FAIL ? -1 : real(fd, data, v == SHORT ? size / 2 : size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    enum verdict v = judge(CALL_WRITE, fd);
    return v == FAIL ? -1 : real(fd, data, v == SHORT ? size / 2 : size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    enum verdict v = judge(CALL_WRITE, fd);
    return v == FAIL ? -1 : real(fd, data, v == SHORT ? size / 2 : size, at);
}

/* A short vectored write stores half of its first piece. */
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    REAL(writev);
    enum verdict v = judge(CALL_WRITE, fd);
    if (v == FAIL) return -1;
    return v == SHORT && count > 0 ? syscall(SYS_write, fd, pieces->iov_base, pieces->iov_len / 2) : real(fd, pieces, count);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    REAL(pwritev);
    enum verdict v = judge(CALL_WRITE, fd);
    if (v == FAIL) return -1;
    return v == SHORT && count > 0 ? syscall(SYS_pwrite64, fd, pieces->iov_base, pieces->iov_len / 2, at)
                                   : real(fd, pieces, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t at) {
    REAL(pwritev64);
    enum verdict v = judge(CALL_WRITE, fd);
    if (v == FAIL) return -1;
    return v == SHORT && count > 0 ? syscall(SYS_pwrite64, fd, pieces->iov_base, pieces->iov_len / 2, at)
                                   : real(fd, pieces, count, at);
}

int fsync(int fd) {
    REAL(fsync);
    return judge(CALL_SYNC, fd) == PASS ? real(fd) : -1;
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return judge(CALL_SYNC, fd) == PASS ? real(fd) : -1;
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, size) : -1;
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, size) : -1;
}

int fallocate(int fd, int mode, off_t at, off_t size) {
    REAL(fallocate);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, mode, at, size) : -1;
}

int fallocate64(int fd, int mode, off64_t at, off64_t size) {
    REAL(fallocate64);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, mode, at, size) : -1;
}

/* Returns an error number instead of setting errno. */
int posix_fallocate(int fd, off_t at, off_t size) {
    REAL(posix_fallocate);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, at, size) : fail_errno;
}

int posix_fallocate64(int fd, off64_t at, off64_t size) {
    REAL(posix_fallocate64);
    return judge(CALL_ALLOCATE, fd) == PASS ? real(fd, at, size) : fail_errno;
}
