/* What a program of root's does to files, and what it sees of that: the same in every C library and architecture.
 *
 * It works in the directory srv of its working directory, and ends with the number of the line where something is not as with real root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(true) \
    do { \
        if (!(true)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #true, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

static int is(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
    struct stat status;
    return lstat(path, &status) == 0 && status.st_mode == mode && status.st_uid == uid && status.st_gid == gid;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(close(fd) == 0);
}

static void owners(void)
{
    struct stat status;
    write_file("file", "file\n");
    CHECK(chown("file", 33, 34) == 0);
    CHECK(chmod("file", 04711) == 0);
    CHECK(is("file", S_IFREG | 04711, 33, 34));
    CHECK(stat("file", &status) == 0 && status.st_uid == 33);
    CHECK(symlink("file", "link") == 0);
    CHECK(lchown("link", 1000, 70000) == 0);
    CHECK(is("link", S_IFLNK | 0777, 1000, 70000));
    CHECK(mkdir("folder", 0755) == 0);
    CHECK(chown("folder", 0, 42) == 0);
    CHECK(chmod("folder", 02775) == 0);
    write_file("folder/inherits", "");
    CHECK(is("folder/inherits", S_IFREG | 0644, 0, 42));
    int fd = open("folder/inherits", O_RDWR);
    CHECK(fd >= 0 && fchown(fd, 5, -1) == 0 && fchmod(fd, 0600) == 0);
    CHECK(fstat(fd, &status) == 0 && status.st_uid == 5 && status.st_gid == 42 && status.st_mode == (S_IFREG | 0600));
    CHECK(close(fd) == 0);
    fd = open("folder", O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && fchownat(fd, "inherits", 6, 7, 0) == 0);
    CHECK(fstatat(fd, "inherits", &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_uid == 6 && status.st_gid == 7);
    CHECK(close(fd) == 0);
}

static void names(void)
{
    struct stat status;
    write_file("gone", "gone\n");
    CHECK(chown("gone", 9, 9) == 0);
    CHECK(link("gone", "gone-2") == 0);
    CHECK(unlink("gone") == 0);
    CHECK(unlink("gone-2") == 0);
    write_file("new", "new\n");
    CHECK(is("new", S_IFREG | 0644, 0, 0));
    write_file("over", "over\n");
    CHECK(chown("over", 8, 8) == 0);
    CHECK(rename("over", "new") == 0);
    CHECK(is("new", S_IFREG | 0644, 8, 8));
    CHECK(mkdir("empty", 0700) == 0 && rmdir("empty") == 0);
    CHECK(lstat("empty", &status) == -1 && errno == ENOENT);
    CHECK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
    CHECK(chmod("null", 0666) == 0);
    CHECK(lstat("null", &status) == 0 && status.st_rdev == makedev(1, 3) && status.st_mode == (S_IFCHR | 0666));
    CHECK(mknod("block", S_IFBLK | 0600, makedev(259, 70000)) == 0);
    CHECK(lstat("block", &status) == 0 && status.st_rdev == makedev(259, 70000));
    CHECK(mknod("block", S_IFBLK | 0600, makedev(7, 0)) == -1 && errno == EEXIST);
    CHECK(mkfifo("pipe", 0640) == 0);
    CHECK(chown("pipe", 10, 10) == 0 && is("pipe", S_IFIFO | 0640, 10, 10));
}

static void attributes(void)
{
    char value[64];
    write_file("attribute", "");
    CHECK(setxattr("attribute", "user.mine", "yes", 3, 0) == 0);
    CHECK(getxattr("attribute", "user.mine", value, sizeof value) == 3 && memcmp(value, "yes", 3) == 0);
    CHECK(listxattr("attribute", value, sizeof value) == 10 && strcmp(value, "user.mine") == 0);
    CHECK(setxattr("attribute", "user.other", "no", 2, XATTR_CREATE) == 0);
    CHECK(removexattr("attribute", "user.other") == 0);
    CHECK(getxattr("attribute", "user.other", value, sizeof value) == -1 && errno == ENODATA);
}

static void as_another(void)
{
    gid_t groups[] = {20, 70001}, found[8];
    uid_t real, effective, saved;
    CHECK(mkdir("home", 0755) == 0 && chown("home", 1000, 1000) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(setgroups(2, groups) == 0);
        CHECK(getgroups(8, found) == 2 && found[0] == 20 && found[1] == 70001);
        CHECK(setresgid(1000, 1000, 1000) == 0);
        CHECK(setresuid(1000, 1000, 1000) == 0);
        CHECK(getresuid(&real, &effective, &saved) == 0 && real == 1000 && effective == 1000 && saved == 1000);
        CHECK(getuid() == 1000 && geteuid() == 1000 && getgid() == 1000 && getegid() == 1000);
        CHECK(setuid(0) == -1 && errno == EPERM);
        write_file("home/file", "its own\n");
        CHECK(mkdir("home/folder", 0700) == 0);
        CHECK(symlink("file", "home/link") == 0);
        CHECK(is("home/file", S_IFREG | 0644, 1000, 1000));
        CHECK(open("refused", O_WRONLY | O_CREAT, 0644) == -1 && errno == EACCES);
        CHECK(chown("home/file", 0, 0) == -1 && errno == EPERM);
        CHECK(unlink("file") == -1 && errno == EACCES);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(geteuid() == 0 && is("home/folder", S_IFDIR | 0700, 1000, 1000));
}

int main(int count, char **arguments)
{
    CHECK(chdir("srv") == 0);
    umask(022);
    owners();
    names();
    attributes();
    as_another();
    if (count > 1) /* another root, in which this program is /p as well */
        CHECK(chroot(arguments[1]) == 0 && chdir("/") == 0 && execl("/p", "/p", (char *)NULL) == 0);
    return 0;
}
