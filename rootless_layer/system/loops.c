/* Two loops over rows, in which most of the time of a layer of small files goes: what lstat(2) says of a directory's
 * names, and rows written into a tar by libarchive. tree/walk.py and tar/write.py have both in Python, as well.
 *
 * A loop stops before the first row that is not plain, or with which anything is wrong. Python does that one, and says
 * what is wrong. So a layer's bytes are the same with these loops and without them.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t nanoseconds = 1000000000;

static int64_t since_epoch(struct timespec time)
{
    return time.tv_sec * nanoseconds + time.tv_nsec;
}

/* Take down what lstat says of names in a directory, each name ended by a zero byte. Gives how many could be looked at. */
long look_at_names(int folder, const char *name, long count, uint32_t *modes, int64_t *sizes, uint64_t *devices,
                   uint64_t *inodes, int64_t *times, int64_t *changes)
{
    struct stat found;

    for (long row = 0; row < count; row++) {
        if (fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
            return row;
        modes[row] = found.st_mode;
        sizes[row] = S_ISREG(found.st_mode) ? found.st_size : 0;
        devices[row] = found.st_dev;
        inodes[row] = found.st_ino;
        times[row] = since_epoch(found.st_mtim);
        changes[row] = since_epoch(found.st_ctim);
        name += strlen(name) + 1;
    }
    return count;
}

/* The functions of libarchive's that are called; tar/native.py has the same list. */
struct libarchive {
    void *(*entry_clear)(void *);
    void (*entry_copy_pathname)(void *, const char *);
    void (*entry_set_size)(void *, int64_t);
    void (*entry_set_mode)(void *, unsigned);
    void (*entry_set_uid)(void *, int64_t);
    void (*entry_set_gid)(void *, int64_t);
    void (*entry_copy_uname)(void *, const char *);
    void (*entry_copy_gname)(void *, const char *);
    void (*entry_set_mtime)(void *, int64_t, long);
    int (*write_header)(void *, void *);
    ssize_t (*write_data)(void *, const void *, size_t);
};

/* What rows have in common (tree/table.py). The source of a file is the top and the path behind its first bytes. */
struct shape {
    uint32_t mode, uid, gid, cut;
    int64_t epoch;
    uint64_t device;
    const char *top, *uname, *gname;
};

struct rows {
    const int32_t *kinds; /* the number of a shape, or less than 0 for a row that is not plain */
    const int64_t *sizes;
    const uint64_t *inodes;
    const int64_t *times;
    const struct shape *shapes;
    long count;
};

struct output {
    const struct libarchive *functions;
    void *archive, *record;
    const size_t *used; /* bytes of the archive so far */
    size_t room;        /* bytes that it may have */
    char *buffer;       /* for a file's data, with room for one byte more than the largest */
    int64_t largest;
};

enum { LONGEST_TOP = 4096, LONGEST_PATH = 4096, HEADERS = 4096 };

static int is_ascii(const char *text)
{
    for (; *text; text++)
        if (*text & 0x80)
            return 0;
    return 1;
}

/* Read a file that is as it was when it was listed; one byte more is asked for than it should have. */
static int read_file(const char *source, const struct rows *rows, long row, char *buffer)
{
    struct stat found;
    int right;
    int descriptor = open(source, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);

    if (descriptor < 0)
        return 0;
    right = read(descriptor, buffer, rows->sizes[row] + 1) == rows->sizes[row] && fstat(descriptor, &found) == 0
        && found.st_dev == rows->shapes[rows->kinds[row]].device && found.st_ino == rows->inodes[row]
        && found.st_size == rows->sizes[row] && since_epoch(found.st_mtim) == rows->times[row];
    close(descriptor);
    return right;
}

static int64_t seconds_of(const struct shape *shape, int64_t time)
{
    int64_t seconds = time / nanoseconds - (time % nanoseconds < 0);

    return S_ISDIR(shape->mode) || seconds > shape->epoch ? shape->epoch : seconds;
}

/* Write rows from one on, whose path this is; each path is ended by a zero byte, and the next one's follows. Gives the
 * first row that was not written, or less than 0, ~row, where libarchive complains.
 */
long write_rows(const struct output *output, const struct rows *rows, long row, const char *path)
{
    const struct libarchive *functions = output->functions;
    void *record = output->record;
    char source[LONGEST_TOP + LONGEST_PATH];
    const struct shape *shape = NULL;
    size_t top = 0;

    functions->entry_clear(record);
    for (; row < rows->count; row++) {
        size_t length = strlen(path);
        int64_t size = rows->sizes[row];

        if (rows->kinds[row] < 0 || size > output->largest || !length || length >= LONGEST_PATH || !is_ascii(path)
            || *output->used + HEADERS + 4 * length + size > output->room)
            break;
        if (shape != rows->shapes + rows->kinds[row]) {
            shape = rows->shapes + rows->kinds[row];
            top = strlen(shape->top);
            if (top >= LONGEST_TOP || shape->cut > length)
                break;
            memcpy(source, shape->top, top);
            functions->entry_set_mode(record, shape->mode);
            functions->entry_set_uid(record, shape->uid);
            functions->entry_copy_uname(record, shape->uname);
            functions->entry_set_gid(record, shape->gid);
            functions->entry_copy_gname(record, shape->gname);
        }
        if (size) {
            memcpy(source + top, path + shape->cut, length - shape->cut + 1);
            if (!read_file(source, rows, row, output->buffer))
                break;
        }
        functions->entry_copy_pathname(record, path);
        functions->entry_set_size(record, size);
        functions->entry_set_mtime(record, seconds_of(shape, rows->times[row]), 0);
        if (functions->write_header(output->archive, record) < 0
            || (size && functions->write_data(output->archive, output->buffer, size) != size))
            return ~row;
        path += length + 1;
    }
    return row;
}
