/* Records what a process does to the files of one folder, in order, so that a test can cut the power at any place of it.
 *
 *   LD_PRELOAD=record.so POWER_FOLDER=/folder POWER_RECORD=/elsewhere/record program...
 *
 * Every record is a line: OPERATION INODE OFFSET LENGTH, and after it LENGTH bytes (what was written, or a name):
 *
 *   C  a name was given to a new file            R  a name was taken from a file and given the second one (name NUL name)
 *   U  a name was removed                        W  bytes were written at an offset
 *   T  the file was cut or grown to OFFSET       S  the file, or the folder (inode 0), was synced
 *
 * POWER_FAIL=OPERATION:NUMBER:COUNT:ERRNO lets that operation fail, from its NUMBERth time on, COUNT times. Shared memory
 * (-shm) is left out: nothing of it outlives the power.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES 4096

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *failing;
static size_t folder_length;
static int out = -1;
static long fail_from, fail_count, fail_errno, seen;
static unsigned long inode_of[FILES]; /* 0: not ours; 1: the folder itself */

__attribute__((constructor)) static void begin(void) {
    const char *record = getenv("POWER_RECORD");
    folder = getenv("POWER_FOLDER");
    if (!folder || !record)
        return;
    folder_length = strlen(folder);
    out = (int)syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char *fail = getenv("POWER_FAIL");
    if (fail && sscanf(fail, "%*c:%ld:%ld:%ld", &fail_from, &fail_count, &fail_errno) == 3)
        failing = fail;
}

static int ours(const char *path) {
    size_t length = strlen(path);
    if (out < 0 || strncmp(path, folder, folder_length) || (path[folder_length] != '/' && path[folder_length]))
        return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

static void put(const void *data, size_t length) {
    const char *at = data;
    while (length) {
        long done = syscall(SYS_write, out, at, length);
        if (done <= 0)
            abort();
        at += done;
        length -= (size_t)done;
    }
}

static void record(char operation, unsigned long inode, long offset, const void *data, size_t length) {
    char line[96];
    put(line, (size_t)snprintf(line, sizeof line, "%c %lu %ld %zu\n", operation, inode, offset, length));
    put(data, length);
}

static int refused(char operation) {
    if (!failing || *failing != operation)
        return 0;
    seen++;
    if (seen < fail_from || seen >= fail_from + fail_count)
        return 0;
    errno = (int)fail_errno;
    return 1;
}

static int followed(int fd) { return fd >= 0 && fd < FILES && inode_of[fd] > 1; }

static int open_recorded(int at, const char *path, int flags, mode_t mode) {
    if (at != AT_FDCWD || !ours(path))
        return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&turn);
    struct stat found;
    int is_new = (flags & O_CREAT) && stat(path, &found) != 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fd < FILES && fstat(fd, &found) == 0) {
        inode_of[fd] = S_ISDIR(found.st_mode) ? 1 : found.st_ino;
        if (is_new)
            record('C', found.st_ino, 0, path, strlen(path));
        if ((flags & O_TRUNC) && !is_new)
            record('T', found.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_recorded(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_recorded(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_recorded(at, path, flags, mode); }

int close(int fd) {
    pthread_mutex_lock(&turn);
    if (fd >= 0 && fd < FILES)
        inode_of[fd] = 0;
    int done = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&turn);
    return done;
}

static ssize_t write_recorded(int fd, const void *data, size_t length, long offset) {
    pthread_mutex_lock(&turn);
    long done = -1;
    if (!refused('W')) {
        long at = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset;
        if (offset < 0 && (fcntl(fd, F_GETFL) & O_APPEND))
            at = lseek(fd, 0, SEEK_END);
        done = offset < 0 ? syscall(SYS_write, fd, data, length) : syscall(SYS_pwrite64, fd, data, length, offset);
        if (done > 0)
            record('W', inode_of[fd], at, data, (size_t)done);
    }
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    return followed(fd) ? write_recorded(fd, data, length, -1) : syscall(SYS_write, fd, data, length);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return followed(fd) ? write_recorded(fd, data, length, offset) : syscall(SYS_pwrite64, fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return pwrite(fd, data, length, offset); }

static int cut_recorded(int fd, long size) {
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (done == 0 && followed(fd))
        record('T', inode_of[fd], size, "", 0);
    pthread_mutex_unlock(&turn);
    return done;
}

int ftruncate(int fd, off_t size) { return cut_recorded(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut_recorded(fd, size); }

static int sync_recorded(int fd, long call) {
    if (fd < 0 || fd >= FILES || !inode_of[fd])
        return (int)syscall(call, fd);
    pthread_mutex_lock(&turn);
    int done = refused('S') ? -1 : (int)syscall(call, fd);
    if (done == 0)
        record('S', inode_of[fd] > 1 ? inode_of[fd] : 0, 0, "", 0);
    pthread_mutex_unlock(&turn);
    return done;
}

int fsync(int fd) { return sync_recorded(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_recorded(fd, SYS_fdatasync); }

int unlink(const char *path) {
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0 && ours(path))
        record('U', 0, 0, path, strlen(path));
    pthread_mutex_unlock(&turn);
    return done;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&turn);
    int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (done == 0 && ours(from) && ours(to)) {
        char both[2 * 4096];
        size_t first = strlen(from) + 1, second = strlen(to);
        if (first + second > sizeof both)
            abort();
        memcpy(both, from, first);
        memcpy(both + first, to, second);
        record('R', 0, 0, both, first + second);
    }
    pthread_mutex_unlock(&turn);
    return done;
}
