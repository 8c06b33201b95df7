"""A corpus of small scripts: what people do to a root filesystem, and what goes wrong when they do.

Each script runs in the tree's root (``/`` in the root view, the working directory in the
directory view) and names its files relative to it, so that the same text serves both views.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import attrs
from helpers.place import once
from helpers.stores import Store

BOTH = ("root", "directory")
ROOT = ("root",)
DIRECTORY = ("directory",)


@attrs.frozen
class Case:
    """One script of the corpus."""

    name: str
    proves: str
    text: str
    views: tuple[str, ...] = BOTH
    options: tuple[str, ...] = ()

    @property
    def needs_tools(self) -> bool:
        """Whether it runs programs beyond a shell, coreutils, shadow's and util-linux's."""
        return _TOOLS.search(self.text) is not None

    @property
    def closure(self) -> str:
        """The least closure that will do: with a shell and coreutils, with what makes accounts, or with all tools."""
        if self.needs_tools or "nix/store" in self.text:
            return "big"
        return "small" if _ACCOUNTS.search(self.text) else "shell"


_ACCOUNTS = re.compile(r"\b((user|group)(add|mod|del)|su|runuser|setpriv)\b")
_TOOLS = re.compile(r"\b(find|xargs|sed|grep|tar|[gs]etfattr|[gs]etcap|[gs]etfacl|rsync|perl|python3\.11)\b")


def options_of(case: Case, view: str, store: Store, contents: Sequence[str | Path]) -> list[str]:
    """Give the options of ``rootless-layer build`` for a script, but for the script itself."""
    words = [*store.options, "--view", view, *case.options]
    for content in contents:
        words += ["--copy-to-root", str(content)]
    for name, value in environment(store).items() if view == "root" else ():
        words += ["--env", f"{name}={value}"]
    return words


def environment(store: Store) -> dict[str, str]:
    """Tell the interpreters of a closure where their libraries are: each has another place compiled in."""
    places = {"PERL5LIB": ("perl-base", "/lib/x86_64-linux-gnu/perl-base"), "PYTHONHOME": ("libpython3.11-minimal", "")}
    found = {variable: (package(store, name), below) for variable, (name, below) in places.items()}
    return {variable: f"{path}{below}" for variable, (path, below) in found.items() if path}


def package(store: Store, name: str) -> str:
    """Find the store path of exactly this package (its version begins with a digit); nothing where there is none."""
    return next((path for full, path in store.paths.items() if re.match(rf"{re.escape(name)}-\d", full)), "")


ROOT_COPY = "coreutils"
"""The store path whose programs stand in ``/bin``, too."""


def shared_contents(store: Store) -> list[str]:
    """Give what is merged into the root: a store path's programs, and a tree that is made once for all tests."""
    return [package(store, ROOT_COPY), str(once("things", lambda tree: make_things(tree, store)))]


def make_things(tree: Path, store: Store) -> None:
    """Make the tree that the scripts work on."""
    for name, data in {
        "etc/pam.d/su": pam(store),
        "etc/pam.d/other": pam(store),
        "etc/motd": "hello world\nhello again\n",
        "srv/text": "one\ntwo\nthree\n",
        "srv/tool": "#!/bin/sh\necho tool\n",
        "srv/dir/sub/file": "deep\n",
        "srv/dir/other": "shallow\n",
        "srv/swap/one": "1\n",
        "srv/swap/two": "2\n",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(data)
    (tree / "srv/tool").chmod(0o755)
    (tree / "bin").mkdir()
    for name in ("sh", "bash"):
        (tree / "bin" / name).symlink_to(f"{package(store, 'bash')}/bin/bash")
    for number in range(120):
        path = tree / f"srv/many/{number % 12}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 3)
    (tree / "srv/link").symlink_to("dir/other")
    (tree / "srv/empty").mkdir()
    (tree / "srv/tree.tar").write_bytes(archive())
    for here, folders, files in os.walk(tree):
        for name in folders:
            (Path(here) / name).chmod(0o755)
        for name in files:
            path = Path(here) / name
            if not path.is_symlink() and name != "tool":
                path.chmod(0o644)


def pam(store: Store) -> str:
    """Give the rules by which ``su`` lets root become anybody; modules are named by their whole path."""
    modules = f"{package(store, 'libpam-modules')}/lib/x86_64-linux-gnu/security"
    lines = ("auth sufficient", "pam_rootok.so"), ("account required", "pam_permit.so"), ("session required", "pam_permit.so")
    return "".join(f"{rule} {modules}/{module}\n" for rule, module in lines)


def archive() -> bytes:
    """Make a tar archive with owners, modes, devices, links and a long name in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes, data: bytes = b"", **more: object) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime = kind, len(data), 1
            for attribute, value in more.items():
                setattr(info, attribute, value)
            tar.addfile(info, io.BytesIO(data))

        add("unpacked", tarfile.DIRTYPE, mode=0o2750, uid=5, gid=60)
        add("unpacked/plain", tarfile.REGTYPE, b"data\n", mode=0o640, uid=1000, gid=1000)
        add("unpacked/setuid", tarfile.REGTYPE, b"#!/bin/sh\n", mode=0o4755, uid=0, gid=0)
        add("unpacked/hard", tarfile.LNKTYPE, linkname="unpacked/plain", mode=0o640, uid=1000, gid=1000)
        add("unpacked/symbolic", tarfile.SYMTYPE, linkname="plain", mode=0o777, uid=1000, gid=1000)
        add("unpacked/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
        add("unpacked/disk", tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=8, devminor=17)
        add("unpacked/queue", tarfile.FIFOTYPE, mode=0o622, uid=7, gid=7)
        add("unpacked/" + "n" * 200, tarfile.REGTYPE, mode=0o600, uid=3_000_000_000, gid=3_000_000_000)
        add("unpacked/sticky", tarfile.DIRTYPE, mode=0o1777)
    return buffer.getvalue()


_NAME = "n" * 255

CORPUS: tuple[Case, ...] = (
    Case("nothing", "A script that does nothing leaves the tree as it was.", "true\n"),
    # --- accounts ---
    Case(
        "redis",
        "The real groupadd and useradd work on the tree as /, and their account owns what is given to it.",
        "groupadd -r redis\nuseradd -r -g redis -d /data -M redis\nmkdir /data\nchown redis:redis /data\n",
        ROOT,
    ),
    Case(
        "redis-prefix",
        "This machine's groupadd and useradd work on the tree by --prefix.",
        """groupadd --prefix "$PWD" -r redis
useradd --prefix "$PWD" -r -g redis -d /data -M redis
mkdir data
chown "$(sed -n 's/^redis:x:\\([0-9]*:[0-9]*\\):.*/\\1/p' etc/passwd)" data
rm -f etc/*-
""",
        DIRECTORY,
    ),
    Case(
        "usermod",
        "usermod, groupmod and userdel rewrite the account files in place of the staged ones.",
        "usermod -aG shadow alice\ngroupmod -g 77 nogroup\nuserdel nobody\nmkdir -p home\nuseradd -m bob\n",
        ROOT,
    ),
    Case(
        "su",
        "su becomes another user through PAM, as far as the program can tell.",
        "su alice -s /bin/bash -c 'id -u; id -g; id -un' > srv/who\nsu root -s /bin/bash -c 'chown 5:6 /srv/text'\n",
        ROOT,
    ),
    Case(
        "account-without-tools",
        "An account made without any account program is lines of text, and its id an owner.",
        "echo 'web:x:500:500::/srv:/bin/false' >> etc/passwd\necho 'web:x:500:' >> etc/group\nchown 500:500 srv\n",
    ),
    Case(
        "account-names",
        "A name that a script added to the account files is an owner at once.",
        "echo 'web:x:500:501::/srv:/bin/false' >> /etc/passwd\necho 'web:x:501:' >> /etc/group\n"
        "chown web:web srv\nchown alice: srv/text\n",
        ROOT,
    ),
    Case(
        "passwd-atomically",
        "A file that is replaced by rename is the new one, with its own owner and mode.",
        "cp etc/passwd etc/passwd+\necho 'new:x:7:7::/:/bin/false' >> etc/passwd+\nchmod 600 etc/passwd+\n"
        "chown 0:42 etc/passwd+\nmv etc/passwd+ etc/passwd\n",
    ),
    # --- owners ---
    Case("chown-number", "Owners by number.", "chown 5:6 srv/text srv/dir\nchown 7 srv/tool\nchown :8 srv/dir/other\n"),
    Case("chown-name", "Owners by name, where the account files of both views agree.", "chown nobody:nogroup srv/text\nchown -- root srv\n"),
    Case(
        "chown-link",
        "chown -h gives a symbolic link an owner of its own; chown without it reaches the target.",
        "ln -s nowhere srv/dangling\nchown -h 5:6 srv/dangling srv/link\nln -s text srv/through\nchown 7:8 srv/through\n",
    ),
    Case("chown-recursive", "chown -R reaches every file below, and no link's target.", "ln -s ../tool srv/many/out\nchown -R 11:12 srv/many\n"),
    Case("chown-follow", "chown -RL and -RH follow links as asked.", "ln -s ../dir srv/many/dir\nchown -RL 11:12 srv/many\n"),
    Case(
        "large-ids",
        "Ids above 2**21, which no plain tar header holds, and the largest of all.",
        "chown 2097152:2097153 srv/text\nchown 4000000000:3000000000 srv/tool\nchown 4294967294:4294967294 srv/dir\n",
    ),
    Case("chgrp", "chgrp gives a group and leaves the owner.", "chown 9:9 srv/text\nchgrp 42 srv/text\nchgrp -R 43 srv/dir\n"),
    Case(
        "chown-from",
        "chown --from and --reference read owners that the session gave.",
        "chown 5:5 srv/text\nchown --from=5:5 6:6 srv/text\nchown --from=5:5 7:7 srv/tool\nchown --reference=srv/text srv/dir\n",
    ),
    Case("chown-missing", "A chown of what is not there fails and leaves nothing.", "chown 5:5 srv/none || chown 6:6 srv/text\n"),
    Case("owner-of-parallel", "Owners that many processes give at once are all kept.", "find srv/many -type f | xargs -P 8 -n 3 chown 21:22\n"),
    Case(
        "owner-seen",
        "What the session gave is what the script sees: stat tells it at once.",
        "chown 123:456 srv/text\nchmod 4711 srv/text\nmknod srv/disk b 8 1\n"
        "stat -c '%u %g %a %F %t %T' srv/text srv/disk srv/dir etc/passwd > srv/seen\n",
    ),
    # --- modes ---
    Case("set-id", "Set-user-ID, set-group-ID and sticky on files.", "chmod 4755 srv/tool\nchmod 2755 srv/text\nchmod 6711 srv/dir/other\nchmod 1644 etc/motd\n"),
    Case(
        "set-id-directories",
        "Set-group-ID and sticky on directories, also by mkdir -m.",
        "chmod 2775 srv/dir\nchmod 1777 srv/empty\nmkdir -m 3770 srv/made\nmkdir -m 1777 -p srv/deep/made\n",
    ),
    Case("set-id-owned", "An owner and then a set-ID bit: both are kept.", "chown 33:33 srv/tool\nchmod 6755 srv/tool\nchown 34:34 srv/dir\nchmod 2755 srv/dir\n"),
    Case("chmod-symbolic", "Symbolic modes start from the mode that is there.", "chmod u+x,g-r,o= srv/text\nchmod -R a=rX srv/dir\nchmod -R g+w srv/many/1\n"),
    Case(
        "mode-000",
        "Files and directories that nobody may read are read all the same, with what is in them.",
        "chmod 000 srv/text srv/dir srv/empty\nmkdir -m 000 srv/shut\necho in > srv/shut/file\nchmod 0 srv/shut/file\nchmod -R 000 srv/many/1\n",
    ),
    Case("mode-write-only", "Modes without the owner's own bits stay as they are asked for.", "chmod 077 srv/text\nchmod 007 srv/dir\nchmod 111 srv/tool\n"),
    Case("umask", "The umask is 022, and the script's own is obeyed.", "echo a > srv/a\nmkdir srv/b\numask 077\necho c > srv/c\nmkdir srv/d\numask 0\necho e > srv/e\nmkdir srv/f\n"),
    Case("umask-777", "What a umask shuts to its own maker is in the layer all the same.", "umask 777\nmkdir srv/shut\necho in > srv/shut/in\necho x > srv/unreadable\n"),
    Case("root-mode", "The root directory has a mode of its own.", "chmod 2750 .\n"),
    Case("root-owner", "The root directory has an owner of its own.", "chown 5:6 .\n"),
    Case("root-both", "The root directory may be sticky and somebody's.", "chown 1000:1000 .\nchmod 1777 .\n"),
    Case("tmp", "A /tmp for everybody.", "mkdir -p tmp var/tmp\nchmod 1777 tmp var/tmp\n"),
    # --- devices and other special files ---
    Case("mknod", "Block and character devices and fifos.", "mkdir dev2\nmknod dev2/null c 1 3\nmknod -m 660 dev2/sda b 8 0\nmknod dev2/pipe p\n"),
    Case("mknod-numbers", "Device numbers of more than a byte.", "mknod srv/wide b 259 1048575\nmknod srv/tall c 4095 256\nmknod srv/zero c 0 0\n"),
    Case("mknod-owned", "A device may be given to somebody, renamed and linked.", "mknod srv/tty c 4 64\nchown 0:5 srv/tty\nchmod 620 srv/tty\nmv srv/tty srv/tty2\nmknod srv/x c 1 5\nrm srv/x\necho x > srv/x\n"),
    Case("fifo", "Fifos by mkfifo, with a mode and an owner.", "mkfifo srv/pipe\nmkfifo -m 600 srv/closed\nchown 5:6 srv/closed\n"),
    Case("socket", "A socket belongs to a process: the layer leaves it out.", "perl -e 'socket(S,1,1,0) or die; bind(S, pack(\"Sa*\",1,\"srv/sock\")) or die $!'\ntest -S srv/sock\nchown 5:5 srv/sock\n"),
    # --- links ---
    Case("hard-link", "Names that the script linked stay one file, with one owner.", "ln srv/text srv/text2\nln srv/text2 etc/text3\nchown 5:6 srv/text2\nchmod 600 etc/text3\n"),
    Case("hard-link-new", "A new file under three names.", "echo new > srv/a\nln srv/a srv/b\nln srv/b srv/c\n"),
    Case("hard-link-broken", "A name that is removed or replaced leaves the others one file.", "ln srv/text srv/b\nln srv/text srv/c\nrm srv/text\necho other > srv/new\nmv srv/new srv/b\nln srv/c srv/z\n"),
    Case("hard-link-moved", "Hard links survive the renaming of their directory.", "ln srv/dir/other srv/dir/sub/other\nmv srv/dir srv/moved\n"),
    Case("hard-link-empty", "Empty files under two names.", ": > srv/void\nln srv/void srv/void2\nchown 5:5 srv/void2\n"),
    Case("hard-link-root-copy", "A link to a root copy.", "ln bin/ls bin/ls2\nln bin/ls srv/ls3\n"),
    Case("hard-link-root-copy-changed", "A link to a root copy that is then given to somebody: both are one new file.", "ln bin/ls srv/ls\nchown 5:6 srv/ls\n"),
    Case("symbolic-links", "Symbolic links, dangling, absolute, to themselves, long.", f"ln -s /nowhere srv/a\nln -s . srv/b\nln -s c srv/c\nln -s {'t/' * 400}t srv/d\nln -sf /bin/bash srv/link\nln -sfn dir srv/link2\n"),
    Case("symbolic-link-odd", "A link's target need not be text.", "ln -s \"$(printf 'caf\\351 \\\\ \\377')\" srv/odd\nln -s 'a b\n c' srv/lines\nln -s größe srv/wide\n"),
    # --- names ---
    Case("long-names", "Names of 255 bytes, for each kind of file.", f"echo a > srv/{_NAME}\nmkdir {_NAME}\nln -s {_NAME} srv/{_NAME[1:]}m\nln srv/{_NAME} srv/{_NAME[1:]}l\nchown 5:6 {_NAME}\n"),
    Case("deep-paths", "Paths of more than 255 and of more than 1,000 bytes.", f"p=srv\nfor i in 1 2 3 4 5 6 7 8 9 10 11; do p=$p/{'d' * 100}; done\nmkdir -p $p\necho deep > $p/file\nln $p/file srv/near\nln srv/near $p/again\nchown 5:6 $p $p/file\nln -s $p srv/to\n"),
    Case("non-ascii", "Names of UTF-8 that is not ASCII.", "echo a > srv/größe\nmkdir srv/日本語\nchown 5:6 srv/日本語\nln srv/größe srv/日本語/größe2\nln -s größe srv/ß\nchmod 600 srv/größe\n"),
    Case("non-utf8", "Names that are text in no encoding.", "n=srv/$(printf '\\377\\376x')\necho a > \"$n\"\nmkdir \"$n.d\"\nln \"$n\" \"$n.d/$(printf '\\200')\"\nchown 5:6 \"$n\"\nln -s \"$n\" srv/l\n"),
    Case(
        "odd-names",
        "Spaces, newlines, backslashes, quotes, dashes and other signs in names.",
        """cd srv
for n in 'a b' ' lead' 'trail ' 'new
line' 'back\\slash' 'back\\012n' "q'uote" 'd"quote' -dash '#hash' 'a=b' '*' '?' '[x]' '$(id)' '~' 'tab	x' '...' '%s' ':' "$(printf 'c\\001\\033\\177')"; do
  printf '%s\n' "$n" > "./$n"
  mkdir "./$n.d"
  chown 5:6 "./$n.d"
  ln "./$n" "./$n.d/l"
done
""",
    ),
    # --- deletion, replacement, renaming ---
    Case("remove", "What is removed is not in the layer.", "rm bin/true srv/text\nrm -r srv/dir\nrmdir srv/empty\nrm srv/link\n"),
    Case("remove-all", "Everything outside of the store may go.", "rm -rf srv etc bin lib share sbin usr\n", BOTH),
    Case("rm-rf-large", "A big tree that is made and removed again leaves nothing.", "mkdir srv/big\nfor d in 1 2 3 4 5; do mkdir srv/big/$d; (cd srv/big/$d && seq 300 | xargs touch && chown 5:5 1 2 3); done\nrm -rf srv/big srv/many\n"),
    Case("move", "A renamed file keeps its owner and mode; a root copy may go elsewhere.", "chown 5:6 srv/text\nmv srv/text etc/text\nmv bin/cat bin/kitty\nmv srv/tool bin/true\n"),
    Case("move-directory", "Staged directories under another name, and on top of an empty one.", "mv srv/dir srv/moved\nmkdir opt\nmv srv/many opt/lots\nmv -T srv/swap srv/empty\n"),
    Case("swap", "Two files that change places, and two directories.", "cd srv/swap\nmv one x\nmv two one\nmv x two\ncd ..\nmv dir x\nmv many dir\nmv x many\n"),
    Case("link-over", "ln -sf and ln -f over what is there.", "ln -sf bash bin/sh\nln -sf /nonexistent srv/text\nln -f srv/tool srv/dir/other\n"),
    Case("file-to-directory", "A file becomes a directory, and a directory a file.", "rm srv/text\nmkdir srv/text\necho in > srv/text/in\nrm -r srv/dir\necho file > srv/dir\nrm bin/true\nmkdir bin/true\n"),
    Case("to-link", "Files and directories become links; a link becomes a directory.", "rm -r srv/many\nln -s dir srv/many\nrm srv/link\nmkdir srv/link\nrm srv/tool\nln -s /bin/bash srv/tool\n"),
    Case("to-device", "A staged file becomes a device, and a device a file.", "rm srv/text\nmknod srv/text c 1 3\nmknod srv/n b 1 1\nrm srv/n\necho > srv/n\n"),
    Case("fresh-inode", "A new file in a removed one's place has nothing of its owner and mode.", "for i in 1 2 3 4 5 6; do echo a > srv/a; chown 33:33 srv/a; chmod 4711 srv/a; rm srv/a; done\necho b > srv/b\nrm srv/text\necho c > srv/text\n"),
    # --- programs that unpack and copy ---
    Case("install", "install makes files and directories with owner and mode.", "install -d -m 2755 -o 5 -g 6 opt/a/b\ninstall -m 4750 -o 7 -g 8 srv/tool opt/a/tool\ninstall -D -m 600 srv/text opt/c/d/text\ninstall -m 755 srv/text bin/true\n"),
    Case("sed", "sed -i makes a new file with the old one's owner and mode.", "chown 5:6 etc/motd\nchmod 640 etc/motd\nsed -i 's/hello/good bye/' etc/motd\nsed -i.orig 2d srv/text\n"),
    Case("tar", "tar restores owners, modes, devices and hard links.", "tar -C opt -xpf srv/tree.tar 2>/dev/null || { mkdir opt; tar -C opt --numeric-owner -xpf srv/tree.tar; }\n"),
    Case("tar-through", "tar reads in the session what the session gave, through a pipe.", "mkdir opt\nchown 5:6 srv/text\nmknod srv/n c 1 3\nln srv/tool srv/tool2\ntar --numeric-owner -C srv -cf - text n tool tool2 dir | tar -C opt --numeric-owner -xpf -\n"),
    Case(
        "tar-xattrs",
        "tar carries capabilities and user attributes from one place of the tree to another.",
        "mkdir opt\nsetcap cap_net_raw+ep srv/tool\nsetfattr -n user.a -v b srv/text\nchown 5:6 srv/text\n"
        "tar --xattrs '--xattrs-include=*' -C srv -cf - tool text dir | tar --xattrs '--xattrs-include=*' -C opt -xpf -\n",
    ),
    Case(
        "mknod-regular",
        "mknod(2) also makes regular files, and devices of any mode.",
        """python3.11 - <<'END'
import os, stat
os.mknod("srv/plain", 0o640)
os.mknod("srv/disk", stat.S_IFBLK | 0o600, os.makedev(8, 1))
os.mknod("srv/pipe", stat.S_IFIFO | 0o622)
END
""",
    ),
    Case("cp-a", "cp -a keeps owners, modes, links and devices.", "chown -R 5:6 srv/dir\nchmod 4711 srv/dir/other\nmknod srv/dir/n c 1 3\nln srv/dir/other srv/dir/linked\ncp -a srv/dir srv/copy\ncp -a bin/ls srv/ls\n"),
    Case("cp-al", "cp -al makes every file of the copy the same file.", "cp -al srv/dir srv/copy\ncp -al srv/many srv/lots\nchown 5:6 srv/copy/other\n"),
    Case("cp-over", "cp over a file keeps its owner and mode; cp --remove-destination does not.", "chown 5:6 srv/text\nchmod 640 srv/text\ncp etc/motd srv/text\nchown 7:8 srv/tool\ncp --remove-destination etc/motd srv/tool\ncp srv/text bin/true\n"),
    Case("rsync", "rsync -a keeps owners, modes, devices and hard links.", "chown -R 5:6 srv/dir\nmknod srv/dir/n b 8 3\nln srv/dir/other srv/dir/linked\nchmod 2751 srv/dir/sub\nrsync -aH --numeric-ids srv/dir/ srv/copy/\nrsync -a --delete --numeric-ids srv/dir/ srv/many/\n"),
    Case(
        "python",
        "Python's own calls are recorded: chown, chmod, mknod, symlink, link, rename.",
        """python3.11 - <<'END'
import os, stat
os.chdir("srv")
os.chown("text", 5, 6)
os.chown("link", 7, 8, follow_symlinks=False)
os.chmod("tool", 0o4755)
os.mknod("disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
os.mkfifo("pipe", 0o600)
os.symlink("text", "symbolic")
os.link("text", "hard")
os.rename("dir", "renamed")
os.mkdir("new", 0o711)
with open("file", "wb", opener=lambda path, flags: os.open(path, flags, 0o604)) as file:
    os.fchown(file.fileno(), 11, 12)
    os.fchmod(file.fileno(), 0o2640)
    file.write(b"data")
folder = os.open("renamed", os.O_RDONLY)
os.chown("other", 13, 14, dir_fd=folder)
os.mkdir("made", dir_fd=folder)
os.unlink("sub/file", dir_fd=folder)
os.replace("other", "new-name", src_dir_fd=folder, dst_dir_fd=folder)
END
""",
    ),
    Case("perl", "Perl's own calls are recorded.", "perl -e 'chdir \"srv\"; chown(5,6,\"text\",\"dir\")==2 or die; chmod(04711,\"tool\") or die; symlink(\"a\",\"b\") or die; link(\"text\",\"hard\") or die; rename(\"many\",\"lots\") or die; mkdir(\"made\",0700) or die; unlink(\"link\") or die; rmdir(\"empty\") or die; open(F,\">\",\"new\"); print F \"x\"; close F; utime(1,1,\"new\") or die; use POSIX; mkfifo(\"pipe\",0640) or die'\n"),
    # --- extended attributes ---
    Case(
        "setcap",
        "File capabilities are kept, and getcap reads them in the session.",
        "setcap cap_net_bind_service+ep srv/tool\ngetcap srv/tool | grep -q cap_net_bind_service\n"
        "cp srv/tool srv/other\nsetcap cap_net_raw,cap_net_admin+eip srv/other\n",
    ),
    Case("setcap-owned", "A capability and an owner on the same file, in this order.", "chown 5:6 srv/tool\nchmod 750 srv/tool\nsetcap cap_sys_nice=ep srv/tool\n"),
    Case("setcap-removed", "A capability that is taken away again is gone.", "setcap cap_net_raw+ep srv/tool\nsetcap -r srv/tool\nsetcap cap_chown+p srv/dir/other\nmv srv/dir/other srv/dir/renamed\nln srv/dir/renamed srv/linked\n"),
    Case(
        "setfattr",
        "User attributes of files and directories, binary ones and empty ones too.",
        "setfattr -n user.comment -v 'a b' srv/text\nsetfattr -n user.binary -v 0x00ff0a3d srv/text\nsetfattr -n user.empty srv/dir\n"
        "setfattr -n user.gone -v x srv/tool\nsetfattr -x user.gone srv/tool\ngetfattr -d srv/text | grep -q comment\n",
    ),
    Case("setfattr-long", "A value of a thousand bytes, and twenty names.", f"setfattr -n user.long -v {'v' * 1000} srv/text\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do setfattr -n user.n$i -v $i srv/tool; done\n"),
    # --- contents ---
    Case("empty", "Empty files and directories.", ": > srv/a\ntouch srv/b etc/c\nmkdir -p srv/d/e/f\n: > srv/text\n"),
    Case("large", "A file of 3 MiB.", "yes 0123456789 | head -c 3145728 > srv/large\ncp srv/large srv/large2\nln srv/large srv/large3\n"),
    Case("sparse", "A file with holes is its bytes.", "truncate -s 1M srv/hole\nprintf end | dd of=srv/hole bs=1 seek=700000 conv=notrunc status=none\ntruncate -s 100000 srv/text\ncp --sparse=always srv/hole srv/hole2\n"),
    Case("times", "Times before the epoch given are kept, later ones become it.", "touch -d @1000000 srv/text\ntouch -d @-5 srv/tool\ntouch -d @4000000000 srv/new\ntouch -h -d @2000000 srv/link\ntouch -d @1500000000.75 srv/dir/other\ntouch -d @1000 srv/dir\nmkfifo srv/pipe\ntouch -d @3000 srv/pipe\n", BOTH, ("--source-date-epoch", "1700000000")),
    Case("append", "Staged files may be written in place.", "echo more >> srv/text\nprintf X | dd of=etc/motd bs=1 seek=2 conv=notrunc status=none\n"),
    Case("truncate", "Files cut short and made longer.", "truncate -s 3 srv/text\ntruncate -s 0 etc/motd\ntruncate -s 10 bin/true\n: > bin/false\n"),
    Case("here-document", "Here-documents and quoting.", "cat > etc/conf <<END\nhome=$HOME user=$USER epoch=$SOURCE_DATE_EPOCH term=$TERM\nEND\ncat >> etc/conf <<'END'\n$HOME `id`\nEND\n"),
    Case("environment", "stdin is empty and the environment is fixed.", "cat > srv/stdin\nenv | grep -vE '^(PATH|LD_PRELOAD|FAKE[A-Z_]*|PYTHON[A-Z]*|PERL5LIB|TMPDIR|_|PWD|OLDPWD|SHLVL)=' | sort > srv/environment\nulimit -c > srv/ulimit || true\nrm srv/ulimit\n"),
    # --- root copies of store files ---
    Case("root-copy-written", "A root copy that is written in place is a file of its own.", "echo '# more' >> bin/true\n"),
    Case("root-copy-mode", "A root copy with another mode is a file of its own.", "chmod 4755 bin/true\nchmod 700 bin/false\n"),
    Case("root-copy-owner", "A root copy with another owner is a file of its own.", "chown 5:6 bin/true\nchown -R 7:8 bin\n"),
    Case("root-copy-capability", "A root copy with a capability is a file of its own.", "setcap cap_net_raw+ep bin/true\n"),
    Case("root-copy-touched", "A root copy that is touched, or written with the same bytes, stays the store's file.", "touch bin/true\ncp bin/false srv/false\ncat srv/false > bin/false\nchmod 700 bin/cat\nchmod 555 bin/cat\n"),
    Case("root-copy-replaced", "A root copy that is removed and made again.", "cp bin/true srv/true\nrm bin/true\ncp -a srv/true bin/true\nrm bin/false\necho no > bin/false\n"),
    Case("store-read", "Store files may be read, linked to by symbols and copied.", "for p in nix/store/*-bash-5*; do ln -s /$p/bin/bash srv/bash; cp $p/bin/bash srv/copy; done\nls nix/store > srv/listed\n"),
    Case("beside-the-store", "Other things may stand beside the store paths.", "mkdir -p nix/var/nix\necho x > nix/store/note\nchown 5:6 nix/var\nmkdir nix/store/.links\n"),
    # --- processes ---
    Case("tmpfile", "An unnamed file that is given an owner and then a name.", "python3.11 - <<'END'\nimport os\nfd = os.open('srv', os.O_TMPFILE | os.O_RDWR, 0o600)\nos.write(fd, b'unnamed')\nos.link(f'/proc/self/fd/{fd}', 'srv/named', src_dir_fd=fd, follow_symlinks=True)\nos.fchown(fd, 5, 6)\nos.fchmod(fd, 0o640)\nEND\n"),
    Case("unlinked-open", "A file that is removed while it is open leaves no trace.", "exec 9> srv/ghost\nchown 5:6 srv/ghost\nchmod 4711 srv/ghost\nrm srv/ghost\necho x >&9\nexec 9>&-\necho b > srv/a\necho c > srv/b\n"),
    Case("background", "What runs in the background ends with the script; what was waited for is in the layer.", "(sleep 0.05; chown 5:6 srv/text; echo done > srv/done) &\nwait $!\nsleep 300 &\n"),
    Case("many-processes", "A hundred processes, one after the other and side by side.", "mkdir srv/p\nfor i in $(seq 60); do echo $i > srv/p/$i; chown $i:$i srv/p/$i; done\nfor i in $(seq 60); do (chmod 4711 srv/p/$i) & done\nwait\n"),
    Case("subshells", "Pipes, subshells, traps and a failing command that is caught.", "trap 'echo bye > srv/bye' EXIT\n(cd srv && seq 3 | while read n; do mkdir n$n; chown $n:$n n$n; done)\nfalse || true\nif ! test -e srv/none; then echo ok > srv/ok; fi\n"),
    Case("chdir", "The working directory may go anywhere, and be removed.", 'mkdir srv/here\ncd srv/here\nchown 5:6 .\nrmdir ../here\ncd "$OLDPWD"\nmkdir srv/here\n'),
    Case("bash-script", "A script with a #! line is run by that program.", '#!/bin/bash\nset -euo pipefail\nfiles=(srv/swap/*)\nfor f in "${files[@]}"; do chown 5:6 "$f"; done\n[[ ${#files[@]} == 2 ]]\n'),
    Case("find", "find sees owners and modes that the session gave.", "chown 5:6 srv/many/1/*\nchmod 600 srv/many/2/*\nfind srv/many -uid 5 -exec chmod 640 {} +\nfind srv/many -perm 600 -delete\n"),
)  # fmt: skip

BY_NAME = {case.name: case for case in CORPUS}
