/* System calls as no library makes them: each argument pair names a call and a path.
 *
 * Linked dynamically, a library that is preloaded would see none of this; linked statically
 * there is nothing to load. It prints each call's error, 0 where there was none, and ends
 * with 0: the script that runs it "hides the failure".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define SYS_setxattrat_ 463
#define SYS_io_uring_setup_ 425
#define SO_PEERGROUPS_ 59

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

/* A socket's call as i386 has it: all in one, with the arguments in memory. */
static long socketcall(long number, unsigned one, unsigned two, unsigned three, unsigned four, unsigned five)
{
    unsigned *words = (unsigned *)low("");
    unsigned given[] = {one, two, three, four, five};
    memcpy(words, given, sizeof given);
    return i386(102, number, (long)words, 0, 0, 0);
}

static long bound(const char *path)
{
    struct sockaddr_un *address = (struct sockaddr_un *)low("");
    address->sun_family = AF_UNIX;
    strcpy(address->sun_path, path);
    return socketcall(2, socket(AF_UNIX, SOCK_STREAM, 0), (unsigned)(long)address, sizeof *address, 0, 0);
}

/* Says who this process is, by the two ends of a connection. */
static long peer(int in_one_call)
{
    int ends[2];
    gid_t theirs[64], ours[64];
    struct ucred *who = (struct ucred *)low("");
    socklen_t *length = (socklen_t *)low(""), size = sizeof theirs;
    *length = sizeof *who;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -1;
    if (in_one_call ? socketcall(15, ends[0], SOL_SOCKET, SO_PEERCRED, (unsigned)(long)who, (unsigned)(long)length)
                    : getsockopt(ends[0], SOL_SOCKET, SO_PEERCRED, who, length))
        return -1;
    if (!in_one_call) {
        int count = getgroups(64, ours);
        if (getsockopt(ends[0], SOL_SOCKET, SO_PEERGROUPS_, theirs, &size) < 0 || (int)(size / sizeof *ours) != count
            || memcmp(ours, theirs, size))
            return -1;
        size = 0;
        if (count && (getsockopt(ends[0], SOL_SOCKET, SO_PEERGROUPS_, theirs, &size) == 0 || errno != ERANGE || size == 0))
            return -1;
        errno = 0;
    }
    return who->pid == getpid() && who->uid == geteuid() && who->gid == getegid() ? 0 : -1;
}

/* The ids of i386 that have 16 bits: a larger one is shown as 65534. */
static long short_ids(void)
{
    unsigned short *groups = (unsigned short *)low(""), *three = (unsigned short *)low("");
    gid_t large = 70000;
    int at = 0;
#define IDS(number) (i386(number, (long)three, (long)(three + 1), (long)(three + 2), 0, 0))
#define SEE(true) if (at++, !(true)) return errno = at, -1
    SEE(setgroups(1, &large) == 0 && i386(80, 1, (long)groups, 0, 0, 0) == 1 && groups[0] == 65534);
    groups[0] = 9, groups[1] = 8;
    SEE(i386(81, 2, (long)groups, 0, 0, 0) == 0 && i386(80, 0, 0, 0, 0, 0) == 2);
    SEE(i386(80, 1, (long)groups, 0, 0, 0) == -1 && i386(80, 2, (long)groups, 0, 0, 0) == 2 && groups[0] == 8 && groups[1] == 9);
    SEE(i386(170, 5, 0xFFFF, 7, 0, 0) == 0 && IDS(171) == 0 && three[0] == 5 && three[1] == 0 && three[2] == 7);
    SEE(i386(71, 6, 5, 0, 0, 0) == 0 && i386(47, 0, 0, 0, 0, 0) == 6 && i386(50, 0, 0, 0, 0, 0) == 5);
    SEE(i386(139, 7, 0, 0, 0, 0) == 5 && i386(139, 0xFFFF, 0, 0, 0, 0) == 7 && i386(46, 4, 0, 0, 0, 0) == 0 && getgid() == 4);
    SEE(i386(138, 3, 0, 0, 0, 0) == 0 && i386(138, 0, 0, 0, 0, 0) == 3);
    SEE(i386(164, 1, 0xFFFF, 2, 0, 0) == 0 && IDS(165) == 0 && three[0] == 1 && three[1] == 0 && three[2] == 2);
    SEE(setresuid(70000, 0, 0) == 0 && i386(24, 0, 0, 0, 0, 0) == 65534 && i386(49, 0, 0, 0, 0, 0) == 0);
    SEE(i386(70, 0xFFFF, 3, 0, 0, 0) == 0 && geteuid() == 3 && getuid() == 70000 && i386(23, 0, 0, 0, 0, 0) == -1 && errno == EPERM);
    return 0;
}

static long opened(const char *path, int flags)
{
    int fd = open(path, flags);
    if (fd < 0)
        perror(path);
    return fd;
}

/* The C library's own function, as ctypes and other foreign function interfaces find it. */
static void *symbol(const char *name)
{
#ifdef STATIC
    (void)name;
    abort();
#else
    return dlsym(dlopen("libc.so.6", RTLD_NOW), name);
#endif
}

/* A program that shuts itself in may have its calls answered by a filter of its own. */
static long answer_chown(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fchownat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
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

/* Removes a file by a path that another process changes all the while, to a name that is not there and back. */
static long unlink_changing(const char *path)
{
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile char *last = strcpy(shared, path) + strlen(path) - 1;
    char there = *last;
    pid_t child = fork();
    if (child == 0)
        for (;;) {
            *last = '?';
            for (volatile int wait = 0; wait < 500; wait++) {}
            *last = there;
            for (volatile int wait = 0; wait < 500; wait++) {}
        }
    while (syscall(SYS_unlinkat, AT_FDCWD, shared, 0) < 0 && errno == ENOENT) {}
    int error = access(path, F_OK) == 0 ? EEXIST : 0;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    errno = error;
    return error ? -1 : 0;
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
    if (IS("i386-open")) return i386(5, (long)low(path), O_WRONLY, 0, 0, 0);
    if (IS("i386-openat")) return i386(295, AT_FDCWD, (long)low(path), O_RDWR, 0, 0);
    if (IS("i386-truncate")) return i386(92, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-truncate64")) return i386(193, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-utime")) return i386(30, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-utimes")) return i386(271, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-futimesat")) return i386(299, AT_FDCWD, (long)low(path), 0, 0, 0);
    if (IS("i386-utimensat")) return i386(320, AT_FDCWD, (long)low(path), 0, 0, 0);
    if (IS("i386-utimensat-64")) return i386(412, AT_FDCWD, (long)low(path), 0, 0, 0);
    if (IS("i386-utimensat-times")) return i386(320, AT_FDCWD, (long)low(path), (long)low("16 bytes of time"), 0, 0);
    if (IS("i386-chdir")) return i386(12, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-chroot")) return i386(61, (long)low(path), 0, 0, 0, 0);
    if (IS("i386-link")) return i386(9, (long)low(path), (long)low(with), 0, 0, 0);
    if (IS("i386-linkat")) return i386(303, AT_FDCWD, (long)low(path), AT_FDCWD, (long)low(with), 0);
    if (IS("i386-oldstat")) return i386(18, (long)low(path), (long)low(""), 0, 0, 0);
    if (IS("i386-oldfstat")) return i386(28, 0, (long)low(""), 0, 0, 0);
    if (IS("i386-oldlstat")) return i386(84, (long)low(path), (long)low(""), 0, 0, 0);
    if (IS("i386-bind")) return bound(path);
    if (IS("i386-peer")) return peer(1);
    if (IS("peer")) return peer(0);
    if (IS("i386-ids")) return short_ids();
    if (IS("io_uring")) return syscall(SYS_io_uring_setup_, 4, with);
    if (IS("x32-getpid")) return syscall(0x40000000 | SYS_getpid);
    if (IS("unlink")) return syscall(SYS_unlink, path);
    if (IS("unlink-changing")) return unlink_changing(path);
    if (IS("unlinkat")) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (IS("rename-over")) return syscall(SYS_rename, with, path);
    if (IS("renameat2-over")) return renameat2(AT_FDCWD, with, AT_FDCWD, path, 0);
    if (IS("renameat2-raw")) return syscall(SYS_renameat2, AT_FDCWD, with, AT_FDCWD, path, 0);
    if (IS("renameat2-exchange")) return renameat2(AT_FDCWD, with, AT_FDCWD, path, RENAME_EXCHANGE);
    if (IS("chmod")) return syscall(SYS_chmod, path, 0700);
    if (IS("fchmod")) return syscall(SYS_fchmod, opened(path, O_RDONLY), 0700);
    if (IS("fchmodat2")) return syscall(SYS_fchmodat2, AT_FDCWD, path, 0700, 0);
    if (IS("wrapped-chown")) return chown(path, 33, 33);
    if (IS("symbol-chown")) return ((int (*)(const char *, uid_t, gid_t))symbol("chown"))(path, 33, 34);
    if (IS("symbol-chmod")) return ((int (*)(const char *, mode_t))symbol("chmod"))(path, 0700);
    if (IS("symbol-unlink")) return ((int (*)(const char *))symbol("unlink"))(path);
    if (IS("filtered-chown")) return answer_chown() || syscall(SYS_fchownat, AT_FDCWD, path, 33, 33, 0);
    if (IS("open-unlink-fchown")) {
        int fd = open(path, O_CREAT | O_RDWR, 0644);
        return unlink(path) || fchown(fd, 33, 33) || fchmod(fd, 04711) || close(fd);
    }
    if (IS("tmpfile-fchown")) {
        int fd = open(path, O_TMPFILE | O_RDWR, 0644); /* path is a directory */
        return fchown(fd, 33, 33) || fchmod(fd, 04711) || close(fd);
    }
    if (IS("tmpfiles")) { /* three hundred, each closed before the next, but for the first */
        struct stat kept;
        int first = open(path, O_TMPFILE | O_RDWR, 0644);
        for (int fd = first, left = 300; left--; fd = open(path, O_TMPFILE | O_RDWR, 0644))
            if (fchown(fd, 33, 33) || (fd != first && close(fd))) return -1;
        return fstat(first, &kept) || kept.st_uid != 33;
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
