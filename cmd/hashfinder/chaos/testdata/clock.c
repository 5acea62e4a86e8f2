// A clock that can be stepped, for LD_PRELOAD: the wall clock of a process is ahead by what the file named in
// CHAOS_CLOCK holds, an int64 of nanoseconds in the machine's byte order. The monotonic clock is left as it is.
//
// libfaketime does this too, but hangs in redis-server: it looks for the real clock_gettime with dlsym, which calls
// malloc, and jemalloc asks for the time.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void open_clock(void) {
  const char *name = getenv("CHAOS_CLOCK");
  int fd = name ? open(name, O_RDONLY) : -1;
  if (fd < 0) _exit(100);
  void *at = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) _exit(101);
  close(fd);
  ahead = at;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
  int status = syscall(SYS_clock_gettime, clock, t);
  if (status == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t now = t->tv_sec * INT64_C(1000000000) + t->tv_nsec + *ahead;
    t->tv_sec = now / 1000000000;
    t->tv_nsec = now % 1000000000;
  }
  return status;
}

int gettimeofday(struct timeval *t, void *zone) {
  struct timespec now;
  (void)zone; // nobody uses it any more
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *t) {
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  if (t) *t = now.tv_sec;
  return now.tv_sec;
}
