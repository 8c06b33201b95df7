"""Other users than root, their groups, permissions, access control lists: as real root's chroot has them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest
from helpers.cases import Inputs
from helpers.corpus import Case
from helpers.oracle import Chroot, differences
from helpers.real_root import both
from helpers.running import Runner
from helpers.users import User

pytestmark = pytest.mark.slow

EXECVE = {"aarch64": 221}.get(platform.machine(), 59)
CAPGET = {"aarch64": 90}.get(platform.machine(), 125)
ALICE = "setpriv --reuid 1000 --regid 1000 --clear-groups"
"""Become the user alice, without PAM."""
CASES = {
    "su": "chmod 777 srv/empty\nsu alice -s /bin/bash -c 'umask; cd /srv/empty; echo x > hers; mkdir -m 750 dir; ln -s hers link; mkfifo pipe; echo > dir/in'\n",
    "su with a login shell": "chmod 777 srv/empty\nsu - alice -s /bin/bash -c 'id; echo x > /srv/empty/hers' > srv/who\n",
    "runuser": "chmod 777 srv/empty\nrunuser -u alice -- touch srv/empty/hers\ngroupadd -g 1001 some\ngroupadd -g 1002 more\nrunuser -u alice -g some -G more -- id > srv/who\n",
    "setpriv": f"chmod 777 srv/empty\n{ALICE} touch srv/empty/hers\nsetpriv --reuid 1000 --regid 5 --groups 7,8,9 id > srv/who\nsetpriv --egid 5 --keep-groups touch srv/empty/group\n",
    "all kinds": f"chmod 777 srv/empty\n{ALICE} sh -c 'cd srv/empty; >a; mkdir b; ln -s a c; mkfifo d; ln a e; cp -a b f; mknod g p; mv a h; umask 027; >i; mkdir j'\n",
    "groups": "id > srv/who\nid -Gn > srv/names\nsetpriv --groups 1,2,3 id -G > srv/groups\nsetpriv --clear-groups id -G >> srv/groups\n",
    "groups of a user": "groupadd -g 1001 some\ngroupadd -g 1002 more\nusermod -aG some,more alice\nsu alice -s /bin/bash -c 'id -Gn; id' > srv/who\nid -Gn alice >> srv/who\n",
    "group permission": "chgrp 7 srv/text; chmod 660 srv/text\nsetpriv --reuid 1000 --regid 1000 --groups 7 sh -c 'echo y >> srv/text; cat srv/text' > srv/read\n",
    "no permission to write": f"{ALICE} sh -c 'echo x > srv/text' 2> srv/said || true\n{ALICE} sh -c 'echo x >> srv/text' 2>> srv/said || true\n",
    "no permission to write in place": f"chmod 700 srv/tool\n{ALICE} perl -e 'for (qw(+< >> +>>)) {{ print open(F, $_, \"srv/text\") ? 1 : $!, 0 }} print open(F, \"+<\", \"srv/tool\") ? 1 : $!' > srv/said\nchmod 666 srv/text\n{ALICE} perl -e 'open(F, \"+<\", \"srv/text\") || die; print F \"hers\"; print open(F, \"+<\", \"srv/absent\") ? 1 : $!, open(F, \"+<\", \"srv\") ? 1 : $!' >> srv/said\n",
    "no permission to write to devices": f"mkfifo -m 600 srv/fifo\n{ALICE} sh -c 'echo x 1<> srv/fifo; echo x > /dev/null; echo x 1<> /dev/null; dd if=/dev/zero of=/dev/full count=1' 2> srv/said || true\nsed -i '/copied/d' srv/said\n",
    "no permission to search": f"mkdir -p srv/dir/in; echo > srv/dir/in/file; ln -s dir/in srv/through; chmod 666 srv/dir/in/file; chmod 744 srv/dir\n{ALICE} bash -c 'stat srv/dir/in; stat -c %a srv/through/file srv/through srv/dir; cd srv/dir; cd srv/dir/in; echo > srv/dir/in/file; test -e srv/dir/in/file || echo none >&2; rm srv/through/file; mkdir srv/dir/../x' > srv/seen 2> srv/said || true\n",
    "no permission to search a working directory": f"chmod 700 srv/dir; cd srv/dir; {ALICE} bash -c 'stat text; stat .; stat ..; echo > new; cd .; cd ..; cd /srv; cd dir' 2> /srv/said >&2 || true\n",
    "permission to search": f"mkdir -p srv/dir/in; chown 0:7 srv/dir; chmod 710 srv/dir; setpriv --reuid 1000 --regid 1000 --groups 7 stat -c %a srv/dir/in > srv/said\nchmod 700 srv/dir; setfacl -m u:1000:x srv/dir; {ALICE} stat -c %a srv/dir/in >> srv/said; {ALICE} touch srv/dir/new 2>> srv/said || true\n",
    "no permission to connect": f"cat > srv/ask <<'END'\nuse Socket; for my $kind (SOCK_STREAM, SOCK_DGRAM) {{ for (glob('srv/s-* srv/shut/* srv/text'), 'srv/none') {{ socket(S, PF_UNIX, $kind, 0); print \"$kind $_ \", connect(S, pack_sockaddr_un($_)) ? 1 : $!, \"\\n\" }} }}\nEND\ncat > srv/answer <<'END'\nuse Socket; for (qw(s-600 s-666 s-owned s-listed shut/s)) {{ socket($h{{$_}}, PF_UNIX, SOCK_STREAM, 0); bind($h{{$_}}, pack_sockaddr_un(\"srv/$_\")) || die; listen($h{{$_}}, 9) }} chmod(oct, \"srv/s-$_\") for (qw(600 666)); chown 1000, 0, 'srv/s-owned'; chmod 0700, 'srv/shut', 'srv/s-owned', 'srv/s-listed'; system @ARGV\nEND\nmkdir srv/shut; ln -s s-600 srv/s-link\nperl srv/answer bash -c 'setfacl -m u:1000:rw srv/s-listed; perl srv/ask; {ALICE} perl srv/ask' > srv/said\n",
    "no permission to change times and lengths": f"chmod 646 srv/tool\n{ALICE} bash -c 'for i in srv/text srv/empty srv; do touch -d @5 $i; touch -c $i; touch -h $i; truncate -s 1 $i; done' 2> srv/said || true\n{ALICE} perl -e 'for (qw(srv/text srv/tool)) {{ print utime(7, 7, $_) ? 1 : $!, utime(undef, undef, $_) ? 1 : $!, truncate($_, 0) ? 1 : $! }}' >> srv/said\nchown 1000 srv/text; {ALICE} touch -d @5 srv/text\n",
    "no permission to link": f"chmod 777 srv/empty; chmod 666 srv/text; echo > srv/other; chmod 4777 srv/tool\n{ALICE} sh -c 'for i in srv/text srv/other srv/tool; do ln $i srv/empty; ln $i srv/new; done; ln srv/text srv/other; ln srv/none srv/new' 2> srv/said || true\n",
    "no permission to move a directory": f"mkdir -m 777 srv/from srv/to; mkdir srv/from/roots; mkdir -m 777 srv/from/everybodys\n{ALICE} sh -c 'mv srv/from/roots srv/to; mv srv/from/everybodys srv/to; mv srv/from/roots srv/from/renamed' 2> srv/said || true\n",
    "no permission to change the root": f"{ALICE} chroot srv true 2> srv/said || true\n{ALICE} perl -e 'print chroot(\"/srv\") ? 1 : $!' >> srv/said\n",
    "a failing execve": f"printf '\\177ELF and no more' > srv/broken; chown 5:6 srv/broken; chmod 6755 srv/broken\ncp $(command -v id) srv/id; chown 5:6 srv/id; chmod 6755 srv/id\nchmod 777 srv/empty\n{ALICE} perl -e 'my $path = \"srv/broken\"; my $a = pack(\"pQ\", $path, 0); syscall({EXECVE}, $path, $a, $a + 0); print \"$! $> $< $) $(\\n\"; if (!fork) {{ mkdir \"srv/empty/childs\"; exec \"id\" }} wait; mkdir \"srv/empty/own\"; syscall({EXECVE}, $path, $a, 1); if (!fork) {{ exec \"srv/id\" }} wait; exec \"id\"' > srv/said\n",
    "a failing execve of root's": f"printf '\\177ELF and no more' > srv/broken; chown 5:6 srv/broken; chmod 6755 srv/broken\nperl -e 'my $path = \"srv/broken\"; my $a = pack(\"pQ\", $path, 0); syscall({EXECVE}, $path, $a, $a + 0); chmod 0755, $path; exec \"id\"' > srv/said\n",
    "no permission to make": f"{ALICE} touch srv/new 2> srv/said || true\n{ALICE} mkdir srv/dir/new 2>> srv/said || true\n{ALICE} ln -s x srv/l 2>> srv/said || true\n",
    "no permission to remove": f"{ALICE} rm -f srv/text 2> srv/said || true\n{ALICE} rmdir srv/empty 2>> srv/said || true\n{ALICE} mv srv/text srv/text2 2>> srv/said || true\n",
    "no permission to change": f"{ALICE} chmod 777 srv/text 2> srv/said || true\n{ALICE} chown 1000 srv/text 2>> srv/said || true\n",
    "no permission to change nothing": f"chmod 4711 srv/tool; chmod 3777 srv/dir; chown 1000 srv/empty; chmod 4755 srv/empty\n{ALICE} perl -e 'for (qw(srv/text srv/tool srv/dir srv/empty)) {{ print chown(-1, -1, $_) ? 1 : $! }}' > srv/said\nchmod 755 srv/tool; setcap cap_chown+ep srv/tool; {ALICE} perl -e 'chown(-1, -1, qw(srv/tool)) || die'\n",
    "no permission to execute": f"chmod 744 srv/tool\n{ALICE} srv/tool 2> srv/said || echo $? >> srv/said\n",
    "a sticky directory": f"chmod 1777 srv/empty\necho > srv/empty/roots\nchmod 666 srv/empty/roots\n{ALICE} sh -c 'rm -f srv/empty/roots; >srv/empty/hers; mv srv/empty/roots srv/empty/x; rm srv/empty/hers; >srv/empty/too' 2> srv/said || true\n",
    "her own files": f"chown 1000:1000 srv/text srv/dir\n{ALICE} sh -c 'chmod 640 srv/text; chgrp 7 srv/text; chown 0 srv/text; >srv/dir/new; chmod 2755 srv/dir/new' 2> srv/said || true\n",
    "a group of hers": "chown 1000:1000 srv/text\nsetpriv --reuid 1000 --regid 1000 --groups 7,8 sh -c 'chgrp 7 srv/text; chmod 2770 srv/text; chgrp 9 srv/text' 2> srv/said || true\n",
    "test asks as the user": f"chmod 600 srv/text\n{ALICE} sh -c 'for i in r w x; do test -$i srv/text && echo $i; done; for i in r w x; do test -$i srv/dir && echo $i; done' > srv/said || true\n",
    "set-user-ID": "cp $(command -v id) srv/id; chown 1000:7 srv/id; chmod 6755 srv/id\nsrv/id > srv/said\nsetpriv --reuid 33 --regid 33 --clear-groups srv/id >> srv/said\n",
    "set-group-ID": "cp $(command -v touch) srv/touch; chgrp 7 srv/touch; chmod 2755 srv/touch; chmod 777 srv/empty\nsetpriv --reuid 33 --regid 33 --clear-groups srv/touch srv/empty/theirs\n",
    "set-user-ID root": f"cp $(command -v chown) srv/chown; chmod 4755 srv/chown\n{ALICE} srv/chown 5:6 srv/text\n",
    "set-user-ID of a script": "printf '#!/bin/sh\\nid\\n' > srv/script; chown 1000 srv/script; chmod 4755 srv/script\nsrv/script > srv/said\n",
    "interpreters": f"cp $(command -v id) srv/id; chown 33:7 srv/id; chmod 6755 srv/id; ln -s id srv/linked; cp $(readlink -f $(command -v chown)) srv/chown; setcap cap_chown+ep srv/chown; mkdir -m 700 srv/shut; cp srv/tool srv/shut/id; cp srv/id srv/none; chmod 700 srv/none\nfor i in id linked none absent shut/id chown; do printf '#!/srv/%s \\n' $i > srv/by-${{i%/*}}; done; printf '#! srv/id -u' > srv/relative; printf '#!/srv/by-id\\n' > srv/twice; printf '#!/srv/loop\\n' > srv/loop; printf '#!\\necho plain\\n' > srv/plain; printf '#!/srv/%0300d\\n' 1 > srv/long; chmod 755 srv/by-* srv/relative srv/twice srv/loop srv/plain srv/long; chmod 4755 srv/plain\nfor i in srv/by-* srv/relative srv/twice srv/loop srv/plain srv/long; do $i; {ALICE} sh -c $i; done > srv/said 2>&1 || true\nprintf '#!/srv/chown 5\\n' > srv/give; chmod 755 srv/give; chown 1000 srv/give; {ALICE} srv/give; {ALICE} bash -c 'srv/plain' >> srv/said; sed -i 's,^/.rootless-layer/[^:]*,,' srv/said\n",
    "set-group-ID directories": "chown 0:42 srv/dir\nchmod 2755 srv/dir\necho new > srv/dir/new\nmkdir srv/dir/s srv/dir/s/below\nln -s x srv/dir/link\ncp srv/text srv/dir/copy\ncp -p srv/text srv/dir/kept\nmv srv/text srv/dir/moved\nchmod 755 srv/dir/s\nmkdir -p srv/dir/a/b/c\ninstall -d -m 700 srv/dir/installed\n",
    "her set-group-ID directory": f"chown 1000:42 srv/dir\nchmod 2777 srv/dir\n{ALICE} sh -c '>srv/dir/new; mkdir srv/dir/s; chmod 2755 srv/dir/new; >srv/dir/s/file'\n",
    "set-ID bits after chown": "chmod 6755 srv/tool\nchown 5:6 srv/tool\nchmod 2644 srv/text\nchown 5:6 srv/text\nchmod 6755 srv/dir\nchown 5:6 srv/dir\n",
    "set-ID bits after her chown": f"for i in a b c d e; do cp srv/text srv/$i; done; mkfifo srv/e-fifo; mknod srv/e-node c 1 3; chown 1000:42 srv/[a-e] srv/dir srv/e-*; chown 1000:1000 srv/e; chmod 2644 srv/a srv/e; chmod 2755 srv/b srv/dir; chmod 6744 srv/c; chmod 4755 srv/d; chmod 6744 srv/e-*\n{ALICE} sh -c 'chown 1000 srv/[a-e] srv/dir; chgrp 1000 srv/dir; chmod 6755 srv/e; chgrp 1000 srv/e' 2> srv/said || true\nchown 1000 srv/e-*; mkfifo srv/fifo; mknod srv/node b 1 3; chmod 6777 srv/fifo srv/node; chown 5:6 srv/fifo srv/node\n",
    "capabilities after chown": "setcap cap_net_raw+ep srv/tool\nchown 5:6 srv/tool\n",
    "capabilities of a program": f"for i in ep p ei eip; do cp $(readlink -f $(command -v chown)) srv/$i; setcap cap_chown+$i srv/$i; done; cp srv/text srv/more; {ALICE} srv/ep 5:6 srv/text\n{ALICE} --inh-caps +chown srv/ei 7:8 srv/tool\nfor i in p ei; do {ALICE} srv/$i 5 srv/more || true; done 2> srv/said\n{ALICE} --inh-caps +chown srv/eip 9:9 srv/more\n",
    "capabilities that a program tells of": f"cp $(readlink -f $(command -v perl)) srv/perl; tell='my ($a, $b) = (pack(qq(LL), 0x20080522, 0), qq(\\0) x 24); syscall({CAPGET}, $a, $b); print unpack(qq(h*), $b), qq( $> $<\\n)'\nfor i in cap_chown+ep cap_chown,cap_setuid+p cap_fowner,cap_chown+ei cap_fowner+ep; do setcap $i srv/perl; {ALICE} srv/perl -e \"$tell\"; {ALICE} --inh-caps +chown,+setuid srv/perl -e \"$tell\"; {ALICE} sh -c 'exec \"$@\"' - srv/perl -e \"$tell; exec '/srv/none'\"; done > srv/said\nchmod 4755 srv/perl; setcap cap_fowner+ep srv/perl; {ALICE} srv/perl -e \"$tell\" >> srv/said\nchown 1000 srv/perl; chmod 4755 srv/perl; setcap cap_fowner+ep srv/perl; setpriv --reuid 33 --regid 33 --clear-groups srv/perl -e \"$tell\" >> srv/said\n",
    "set-ID bits after her writes": f"for i in a b c d e f g h; do cp srv/text srv/$i; chmod 6777 srv/$i; done; chmod 2766 srv/h; chgrp 7 srv/g srv/h; chmod 4777 srv/g; cp srv/h srv/i; chgrp 1000 srv/i; chmod 2766 srv/i\n{ALICE} sh -c 'echo > srv/a; echo >> srv/b; truncate -s 9 srv/c; : > srv/d; touch srv/e; cat srv/f; echo >> srv/g; echo >> srv/h; echo >> srv/i; stat -c %a srv/[a-i]' > srv/said\necho >> srv/e; truncate -s 3 srv/f\n",
    "set-ID bits after a write later on": f"cp srv/text srv/a; chmod 6777 srv/a; mkfifo -m 666 srv/go\n{ALICE} sh -c 'exec 3>> srv/a; stat -c %a srv/a; echo > srv/go; read x < srv/go; echo >&3; stat -c %a srv/a' > srv/said &\nread x < srv/go; chmod 6755 srv/a; echo > srv/go; wait; stat -c %a srv/a >> srv/said; rm srv/go\n",
    "capabilities after writes": f"for i in a b c d e f g h i; do cp srv/tool srv/$i; chmod 777 srv/$i; setcap cap_net_raw+ep srv/$i; done\necho > srv/a; echo >> srv/b; truncate -s 9 srv/c; : > srv/d; cp srv/text srv/e; touch srv/f\n{ALICE} sh -c 'echo >> srv/g; : > srv/h; cat srv/i'\n(echo late >&3; getcap srv/i; echo late >> srv/i) 3>> srv/i > srv/said\nln -s a srv/l; setcap cap_net_raw+ep srv/a; echo through >> srv/l\n",
    "capabilities of a program that runs": "cp $(readlink -f $(command -v sleep)) srv/sleep; setcap cap_chown+ep srv/sleep; srv/sleep 100 & until grep -q sleep /proc/$!/comm; do sleep 0.01; done; cp srv/text srv/sleep 2> srv/said || kill $!\n",
    "attributes by others": f"chmod 666 srv/text; mkdir -m 1777 srv/sticky; mkdir -m 777 srv/free\n{ALICE} sh -c 'for i in text tool sticky free; do for n in user.a security.a trusted.a; do setfattr -n $n -v b srv/$i; done; done; setfattr -x user.a srv/text; setfattr -n user.{'a' * 251} -v b srv/text; getfattr -n other.a srv/text' 2> srv/said || true\n",
    "a length that no file has": f"chmod 6777 srv/tool; chown 1000 srv/text; chmod 6777 srv/text\n{ALICE} perl -e 'for (qw(srv/text srv/tool)) {{ print truncate($_, -1) ? 1 : $! }}' > srv/said\n",
    "no new privileges": f"cp $(command -v id) srv/id; chown 1000:7 srv/id; chmod 6755 srv/id; cp $(readlink -f $(command -v chown)) srv/chown; setcap cap_chown+ep srv/chown\n(setpriv --no-new-privs srv/id; setpriv --no-new-privs sh -c 'setpriv -d | grep no_new; exec srv/id'; setpriv -d | grep no_new; srv/id) > srv/said\n{ALICE} --no-new-privs srv/chown 5 srv/text 2>> srv/said || true\n",
    "her set-group-ID without execution": f"chown 0:42 srv/dir; chmod 2777 srv/dir\n{ALICE} perl -e 'umask 0; use Fcntl; for (02644, 02654, 02755) {{ sysopen(F, \"srv/dir/$_\", O_CREAT|O_WRONLY, $_) or die }}'\n",
    "mknod over a file": "mknod srv/text c 1 3 2>srv/said || true\nmknod srv/dir b 1 3 2>>srv/said || true\n",
    "her mknod": f"chmod 777 srv/empty\n{ALICE} sh -c 'for i in empty/c none/c text dir/c new/; do mknod srv/$i c 1 3; done; mknod srv/empty/b b 0 0; mknod srv/dir/w c 0 0; mknod -m 4640 srv/empty/w c 0 0' 2>srv/said || true\nmknod srv/new/ c 1 3 2>>srv/said || true\n{ALICE} mkfifo srv/empty/p\n",
    "useradd": "groupadd -g 1001 some\nuseradd -m -u 1234 -G some bob\nsu bob -s /bin/bash -c 'cd; pwd; id; echo > mine; mkdir .config' > srv/who\n",
    "emptied environment": "chmod 777 srv/empty\nenv -i $(command -v setpriv) --reuid 1000 --regid 1000 --clear-groups $(command -v touch) srv/empty/hers\n",
    "an access list": "setfacl -m u:1000:rw,g:7:r srv/text\ngetfacl -n srv/text > srv/list\nstat -c %a srv/text >> srv/list\nchmod 640 srv/text\ngetfacl -n srv/text >> srv/list\n",
    "an access list's mask": "setfacl -m u:1000:rwx,m::r srv/text\nchmod g+w srv/text\ngetfacl -n srv/text > srv/list\nsetfacl -x u:1000 srv/text\ngetfacl -n srv/text >> srv/list\nsetfacl -b srv/text\ngetfacl -n srv/text >> srv/list\n",
    "a list that is a mode": "setfacl -m u::rw,g::rx,o::- srv/text\ngetfacl -n srv/text > srv/list\n",
    "a list gives her a file": f"chmod 600 srv/text\nsetfacl -m u:1000:rw srv/text\n{ALICE} sh -c 'cat srv/text; echo hers >> srv/text' > srv/read\n",
    "a list keeps her out": f"chmod 666 srv/text\nsetfacl -m u:1000:- srv/text\n{ALICE} sh -c 'echo hers >> srv/text' 2> srv/said || true\n",
    "a default list": "setfacl -d -m u:1000:rwx,g:7:rx srv/dir\necho > srv/dir/new\nmkdir srv/dir/s srv/dir/s/below\necho > srv/dir/s/file\n(umask 077; echo > srv/dir/masked; mkdir srv/dir/closed)\nmkdir -m 700 srv/dir/mode\nln -s x srv/dir/link\nmkfifo srv/dir/pipe\nmknod srv/dir/node c 1 3\nfind srv/dir ! -type l | sort | getfacl -n - > srv/list\n",
    "a default list that is a mode": "setfacl -d -m u::rwx,g::r,o::- srv/dir\necho > srv/dir/new\nmkdir srv/dir/s\n",
    "a default list goes": "setfacl -d -m u:1000:rwx srv/dir\nmkdir srv/dir/s\nsetfacl -k srv/dir\nmkdir srv/dir/later\nfind srv/dir ! -type l | sort | getfacl -n - > srv/list\n",
    "lists are copied": "setfacl -m u:1000:rw srv/text\nsetfacl -d -m g:7:rwx srv/dir\ncp -a srv/text srv/copy\ncp -a srv/dir srv/copied\ntar --acls -C srv -cf - text dir | tar --acls -C srv/empty -xf -\nrsync -aA srv/text srv/synced\n",
    "a list she gives, and set-group-ID bits": f"cp srv/text srv/more; chown 1000:42 srv/dir srv/text; chown 1000:1000 srv/more; chmod 2775 srv/dir srv/text srv/more; mkdir -m 2777 srv/shared; chgrp 42 srv/shared\n{ALICE} sh -c 'for i in dir text more; do setfacl -m u:5:r srv/$i; done; cp -r --preserve=mode srv/dir srv/shared/copy; setfacl -d -m u:5:r srv/shared/copy; mkdir srv/shared/new; setfacl -m g::rx srv/shared/new' 2> srv/said || true\nmkdir srv/shared/roots; setfacl -m u:5:r srv/shared/roots; chmod 2755 srv/more\n",
    "lists stay at a rename": "setfacl -m u:1000:rw srv/text\nmv srv/text srv/moved\nln srv/moved srv/name\nrm srv/moved\necho > srv/text\n",
}  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only real root can be the oracle")
@pytest.mark.parametrize("case", CASES)
def test_users_leave_what_they_leave_in_reality(case: str, somebody: User, chroot: Chroot, inputs: Inputs, work: Path) -> None:
    """Owners, groups, modes, lists, and all that the programs said: the same as in a real chroot."""
    real, ours = both(Case("users", case, CASES[case], ("root",)), somebody, chroot, inputs, work)
    assert differences(real, ours) == {}


def test_descriptors_of_another_user(runner: Runner) -> None:
    """A pipe or file that another user has open can be opened again by its name in /proc, and to be written to."""
    said = runner.run("""
echo > mine; chown 1000 mine
chroot --userspec=1000:1000 / $(command -v bash) -c 'cd $0; exec 5<> mine; echo seen > /dev/fd/5; echo more 1<> /proc/self/fd/5; cat mine; { echo in > /dev/fd/1; echo out 1<> /dev/stdout; } | cat' $PWD >&2
""")
    assert [line for line in said.splitlines() if line in {"seen", "more", "in", "out"}] == ["more", "in", "out"]
