/* Loaded into a process, lets its syncs of files wait for as long as a byte in a file that others may write to is not
   zero: a disk that stalls, and then goes on as if nothing had been. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile char *stalled;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("DISK_STALLED");
    int file = name ? open(name, O_RDONLY) : -1;
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) abort();
    stalled = place;
    close(file);
}

static void wait_for_the_disk(void) {
    struct timespec moment = {0, 5 * 1000 * 1000};
    while (stalled && *stalled) nanosleep(&moment, NULL);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for_the_disk();
    return (int)syscall(SYS_fsync, file);
}
