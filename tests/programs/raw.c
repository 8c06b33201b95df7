/* System calls as no library makes them: each argument pair names a call and a path.
 *
 * Linked dynamically, libfakeroot is loaded into it and sees none of this; linked statically
 * there is nothing to load. It prints each call's error, 0 where there was none, and ends
 * with 0: the script that runs it "hides the failure".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define SYS_setxattrat_ 463
#define SYS_io_uring_setup_ 425

static long i386(long number, long b, long c, long d, long s, long i)
{
    long result;
#ifdef __x86_64__
    /* The kernel's 32-bit entry, which a 64-bit program may use too. */
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(b), "c"(c), "d"(d), "S"(s), "D"(i)
                     : "memory", "r8", "r9", "r10", "r11");
#else
    (void)number, (void)b, (void)c, (void)d, (void)s, (void)i;
    result = -ENOSYS;
#endif
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

/* What int 0x80 points at must lie in the lowest 4 GiB. */
static char *low(const char *text)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (page == MAP_FAILED)
        abort();
    return strcpy(page, text);
}

static long opened(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd < 0)
        perror(path);
    return fd;
}

/* A process that is never the same: each child carries on, and its parent ends. */
static void comet(void)
{
    if (fork() == 0) {
        setsid();
        for (;;)
            if (fork() > 0)
                _exit(0);
    }
}

static long call(const char *name, char *path)
{
    dev_t null = makedev(1, 3);
    char with[4096];
    snprintf(with, sizeof with, "%s-2", path);
#define IS(text) (strcmp(name, text) == 0)
    if (IS("chown")) return syscall(SYS_chown, path, 33, 33);
    if (IS("lchown")) return syscall(SYS_lchown, path, 33, 33);
    if (IS("fchown")) return syscall(SYS_fchown, opened(path, O_RDONLY), 33, 33);
    if (IS("fchownat")) return syscall(SYS_fchownat, AT_FDCWD, path, 33, 33, 0);
    if (IS("fchownat-empty")) return syscall(SYS_fchownat, opened(path, O_PATH), "", 33, 33, AT_EMPTY_PATH);
    if (IS("setxattr")) return syscall(SYS_setxattr, path, "user.x", "1", 1, 0);
    if (IS("lsetxattr")) return syscall(SYS_lsetxattr, path, "user.x", "1", 1, 0);
    if (IS("fsetxattr")) return syscall(SYS_fsetxattr, opened(path, O_RDONLY), "user.x", "1", 1, 0);
    if (IS("removexattr")) return syscall(SYS_removexattr, path, "user.x");
    if (IS("setxattrat")) return syscall(SYS_setxattrat_, AT_FDCWD, path, 0, "user.x", "1", 16);
    if (IS("mknod-char")) return syscall(SYS_mknod, path, S_IFCHR | 0666, null);
    if (IS("mknod-block")) return syscall(SYS_mknodat, AT_FDCWD, path, S_IFBLK | 0600, makedev(7, 0));
    if (IS("mknod-fifo")) return syscall(SYS_mknod, path, S_IFIFO | 0644, 0);
    if (IS("i386-chown")) return i386(212, (long)low(path), 33, 33, 0, 0);
    if (IS("i386-lchown16")) return i386(16, (long)low(path), 33, 33, 0, 0);
    if (IS("i386-fchownat")) return i386(298, AT_FDCWD, (long)low(path), 33, 33, 0);
    if (IS("i386-setxattr")) return i386(226, (long)low(path), (long)low("user.x"), (long)low("1"), 1, 0);
    if (IS("i386-mknod")) return i386(14, (long)low(path), S_IFCHR | 0666, (1 << 8) | 3, 0, 0);
    if (IS("i386-unlink")) return i386(10, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-chmod")) return i386(15, (long)low(path), 0700, 0, 0, 0);
    if (IS("io_uring")) return syscall(SYS_io_uring_setup_, 4, with);
    if (IS("x32-getpid")) return syscall(0x40000000 | SYS_getpid);
    if (IS("unlink")) return syscall(SYS_unlink, path);
    if (IS("unlinkat")) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (IS("rename-over")) return syscall(SYS_rename, with, path);
    if (IS("renameat2-over")) return renameat2(AT_FDCWD, with, AT_FDCWD, path, 0);
    if (IS("renameat2-raw")) return syscall(SYS_renameat2, AT_FDCWD, with, AT_FDCWD, path, 0);
    if (IS("renameat2-exchange")) return renameat2(AT_FDCWD, with, AT_FDCWD, path, RENAME_EXCHANGE);
    if (IS("chmod")) return syscall(SYS_chmod, path, 0700);
    if (IS("fchmod")) return syscall(SYS_fchmod, opened(path, O_RDONLY), 0700);
    if (IS("fchmodat2")) return syscall(SYS_fchmodat2, AT_FDCWD, path, 0700, 0);
    if (IS("wrapped-chown")) return chown(path, 33, 33);
    if (IS("open-unlink-fchown")) {
        int fd = open(path, O_CREAT | O_RDWR, 0644);
        return unlink(path) || fchown(fd, 33, 33) || fchmod(fd, 04711) || close(fd);
    }
    if (IS("tmpfile-fchown")) {
        int fd = open(path, O_TMPFILE | O_RDWR, 0644); /* path is a directory */
        return fchown(fd, 33, 33) || fchmod(fd, 04711) || close(fd);
    }
    if (IS("tmpfile-link")) { /* a file made whole, then given the name path in the working directory */
        char self[64];
        int fd = open(".", O_TMPFILE | O_RDWR, 0644);
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        return write(fd, "whole\n", 6) != 6 || fchown(fd, 33, 33) || linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
    }
    if (IS("truncate")) return truncate(path, 0);
    if (IS("open-write")) return write((int)opened(path, O_WRONLY), "x", 1) == 1 ? 0 : -1;
    if (IS("attach")) return ptrace(PTRACE_ATTACH, atoi(path), 0, 0);
    if (IS("comet")) return comet(), 0;
    if (IS("kill")) return kill(atoi(path), SIGKILL);
    if (IS("stop")) return kill(atoi(path), SIGSTOP);
    if (IS("handle")) { /* open_by_handle_at leaves any root directory, where it is allowed */
        struct { struct file_handle head; unsigned char bytes[128]; } handle = {.head.handle_bytes = 128};
        int mount, fd;
        if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount, 0) < 0)
            return -1;
        *(unsigned *)handle.bytes = 2; /* the root of ext4 */
        fd = open_by_handle_at((int)opened(path, O_RDONLY), &handle.head, O_RDONLY | O_DIRECTORY);
        return fd;
    }
    if (IS("chroot-twice")) { /* the old way out: a root directory below the working directory */
        mkdir("prison", 0755);
        if (chroot("prison") < 0)
            return -1;
        for (int up = 0; up < 100; up++)
            if (chdir("..") < 0)
                return -1;
        return chroot(".") < 0 || access(path, F_OK) < 0 ? -1 : 0; /* 0: the machine's path is there */
    }
    if (IS("deep")) { /* directories within directories */
        for (int down = atoi(path); down > 0; down--)
            if (mkdir("deep", 0755) < 0 || chdir("deep") < 0)
                return -1;
        return 0;
    }
    fprintf(stderr, "raw: no call %s\n", name);
    exit(2);
}

int main(int count, char **words)
{
    for (int word = 1; word + 1 < count; word += 2) {
        errno = 0;
        long result = call(words[word], words[word + 1]);
        printf("raw %s: %d\n", words[word], result < 0 ? errno : 0);
        fflush(stdout);
    }
    return 0;
}
