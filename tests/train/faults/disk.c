/* Stands before the C library (LD_PRELOAD) and counts what changes files below one folder: opening
 * for writing, write, fsync, rename, mkdir, unlink. Once armed, the k-th of these fails with an
 * errno, or kills the process; a write that fails has written half of its bytes before.
 * Python, torch and safetensors all come through here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long count, fail_at;
static int fail_with, stays, log_to = -1;

/* errno, or 0 to kill; `persistent`: everything after it fails, too, as on a full disk. */
void disk_arm(const char* below, long at, int error, int persistent, int log_descriptor) {
  snprintf(folder, sizeof folder, "%s", below);
  count = 0;
  fail_at = at;
  fail_with = error;
  stays = persistent;
  log_to = log_descriptor;
}

long disk_count(void) { return count; }

static int is_below(const char* path) {
  return path != NULL && folder[0] != 0 && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_descriptor_below(int descriptor) {
  char link[64], path[PATH_MAX];
  if (folder[0] == 0 || descriptor < 3) {
    return 0;
  }
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  return is_below(path);
}

#define REAL(name, type)                             \
  static __typeof__(type) real;                      \
  if (real == NULL) {                                \
    real = (__typeof__(type))dlsym(RTLD_NEXT, name); \
  }

/* Whether this operation is to fail; `half` is written first. */
static int refused(const char* name, int descriptor, const void* half, size_t bytes) {
  REAL("write", ssize_t (*)(int, const void*, size_t))
  ++count;
  if (log_to >= 0) {
    char line[32];
    const int length = snprintf(line, sizeof line, "%s\n", name);
    real(log_to, line, length);
  }
  if (count < fail_at || fail_at == 0 || (count > fail_at && !stays)) {
    return 0;
  }
  if (fail_with == ENOSPC && (strcmp(name, "unlink") == 0 || strcmp(name, "fsync") == 0)) {
    return 0; /* which take no space */
  }
  if (count == fail_at && bytes > 1) {
    real(descriptor, half, bytes / 2);
  }
  if (fail_with == 0) {
    kill(getpid(), SIGKILL);
  }
  errno = fail_with;
  return 1;
}

static int opens(const char* path, int flags) {
  return (flags & O_ACCMODE) != O_RDONLY && is_below(path) && refused("open", -1, NULL, 0);
}

/* `real` takes a mode whether it is looked at or not. */
#define MODE(mode, flags)                                          \
  mode_t mode = 0;                                                 \
  if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
    va_list rest;                                                  \
    va_start(rest, flags);                                         \
    mode = va_arg(rest, mode_t);                                   \
    va_end(rest);                                                  \
  }

int open(const char* path, int flags, ...) {
  MODE(mode, flags)
  REAL("open", int (*)(const char*, int, ...))
  return opens(path, flags) ? -1 : real(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  MODE(mode, flags)
  REAL("open64", int (*)(const char*, int, ...))
  return opens(path, flags) ? -1 : real(path, flags, mode);
}

int openat(int at, const char* path, int flags, ...) {
  MODE(mode, flags)
  REAL("openat", int (*)(int, const char*, int, ...))
  return opens(path, flags) ? -1 : real(at, path, flags, mode);
}

int openat64(int at, const char* path, int flags, ...) {
  MODE(mode, flags)
  REAL("openat64", int (*)(int, const char*, int, ...))
  return opens(path, flags) ? -1 : real(at, path, flags, mode);
}

FILE* fopen64(const char* path, const char* mode) {
  REAL("fopen64", FILE * (*)(const char*, const char*))
  return mode[0] != 'r' && is_below(path) && refused("open", -1, NULL, 0) ? NULL : real(path, mode);
}

FILE* fopen(const char* path, const char* mode) {
  REAL("fopen", FILE * (*)(const char*, const char*))
  return mode[0] != 'r' && is_below(path) && refused("open", -1, NULL, 0) ? NULL : real(path, mode);
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  REAL("write", ssize_t (*)(int, const void*, size_t))
  return is_descriptor_below(descriptor) && refused("write", descriptor, data, bytes)
             ? -1
             : real(descriptor, data, bytes);
}

ssize_t writev(int descriptor, const struct iovec* parts, int number) {
  REAL("writev", ssize_t (*)(int, const struct iovec*, int))
  return is_descriptor_below(descriptor) && refused("write", -1, NULL, 0)
             ? -1
             : real(descriptor, parts, number);
}

int fsync(int descriptor) {
  REAL("fsync", int (*)(int))
  return is_descriptor_below(descriptor) && refused("fsync", -1, NULL, 0) ? -1 : real(descriptor);
}

int rename(const char* from, const char* to) {
  REAL("rename", int (*)(const char*, const char*))
  return is_below(to) && refused("rename", -1, NULL, 0) ? -1 : real(from, to);
}

int mkdir(const char* path, mode_t mode) {
  REAL("mkdir", int (*)(const char*, mode_t))
  return is_below(path) && refused("mkdir", -1, NULL, 0) ? -1 : real(path, mode);
}

int unlink(const char* path) {
  REAL("unlink", int (*)(const char*))
  return is_below(path) && refused("unlink", -1, NULL, 0) ? -1 : real(path);
}
