"""What a Dockerfile says, said here: the same trees and the same properties as of ``podman build``."""

from __future__ import annotations

import json
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.effort import todays
from helpers.image_commands import image
from helpers.make import make
from helpers.place import PLACE, make_folder, remove
from helpers.podman import Podman
from helpers.roots import busybox_root
from helpers.trees import plant
from helpers.users import User, good, make_user

pytestmark = pytest.mark.slow

ENGINES_OWN = {"proc", "sys", "dev", "run", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
"""What an engine puts into a container that it builds in."""
CONFIG = {"Env": ["PATH=/bin:/opt/x", "GREETING=hi"], "WorkingDir": "/srv/app"}
SETUP = """
echo extra:x:1002:app >> /etc/group
mkdir -p /srv/app /srv/there; chmod 711 /srv/there; ln -s srv/there /link; echo old > /srv/there/file
chmod 755 /srv/app; ln /srv/there/file /srv/there/name
"""


@attrs.frozen
class Builder:
    """podman with a base image, and where that lies for everybody."""

    podman: Podman
    base: Path

    def trees(self) -> list[dict[str, tuple[Any, ...]]]:
        """Give all that is in our image and in theirs: kind and permissions, owner, and what it says."""
        said = good(self.podman("image", "mount", "--format", "json", "ours", "theirs")).out
        places = {one["Repositories"][0]: one["mountpoint"] for one in json.loads(said)}
        return [tree(Path(places[f"localhost/{name}:latest"])) for name in ("ours", "theirs")]

    def configs(self) -> list[dict[str, Any]]:
        """Give the properties of our image and of theirs."""
        return [config(said) for said in json.loads(good(self.podman("inspect", "--type", "image", "ours", "theirs")).out)]

    def by_podman(self, dockerfile: str, context: Path, *more: str) -> None:
        """Build a Dockerfile, as the image ``theirs``."""
        path = self.podman.user.home / "Dockerfile"
        path.write_text(f"FROM base\n{dockerfile}\n" if not dockerfile.startswith("FROM") else dockerfile)
        options = ["--layers=false", "--isolation", "chroot", "--format", "docker", "-q", "-t", "theirs", "-f", path, *more]
        good(self.podman("build", *options, context))

    def load(self, user: User, *words: str | Path) -> None:
        """Put an image together, and have podman load it as ``ours``."""
        good(image(user, "--base", self.base, *words, "-t", "localhost/ours:latest", output="ours.tar"))
        good(self.podman("load", "-i", user.home / "ours.tar"))


def config(said: dict[str, Any]) -> dict[str, Any]:
    """Give the properties of an image of those that podman says."""
    found = {key: value for key, value in said["Config"].items() if value}
    found["Env"] = sorted(found.get("Env", ()))
    (found.get("Labels") or {}).pop("io.buildah.version", None)
    return {key: value for key, value in found.items() if value}


def tree(top: Path) -> dict[str, tuple[Any, ...]]:
    """Read a tree on disk."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            relative = str(path.relative_to(top))
            status = path.lstat()
            if relative in ENGINES_OWN or relative.split("/", maxsplit=1)[0] in ENGINES_OWN:
                continue
            says = os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[relative] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, says)
    return found


@pytest.fixture(scope="module")
def builder(shared: Path) -> Iterator[Builder]:
    """podman, where there is root."""
    if os.geteuid() != 0:
        pytest.skip("podman needs root, or ids of one's own in /etc/subuid")
    user = make_user(shared, "root")
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])  # podman takes no long path
    podman = Podman(user, storage)
    good(user.build("--rootfs", busybox_root(), "--script", user.script(SETUP)))
    options = ["--layer", user.home / "layer", "--config", json.dumps(CONFIG), "-t", "localhost/base:latest"]
    good(image(user, *options, output="base.tar"))
    (user.home / "base.tar").chmod(0o644)
    good(podman("load", "-i", user.home / "base.tar"))
    yield Builder(podman, user.home / "base.tar")
    podman("image", "umount", "--all")
    podman("rmi", "--all", "--force")
    remove(Path(storage))
    remove(user.home)


@pytest.fixture
def context(shared: Path) -> Iterator[Path]:
    """A directory to copy of, which everybody may read."""
    made = make_folder(shared, "context-")
    files = {
        "a": "a", "b.txt": "b", "c.txt": "c", ".hidden": "h", "sub/d": "d", "sub/deep/e": "e", "sub/deep/f.txt": "f",
        "sub/nowhere": "-> dangling", "empty": None, "to-a": "-> a", "to-sub": "-> sub", "other/x/y/z": "z",
    }  # fmt: skip
    plant(made, files)
    (made / "a").chmod(0o755)
    (made / "sub/deep").chmod(0o775)
    (made / "sub/d").chmod(0o600)
    os.chown(made / "sub/d", 12345, 12345)
    os.utime(made / "a", (86400, 86400))
    yield made
    remove(made)


@attrs.frozen
class Row:
    """A row of the table: what a Dockerfile says, the words of ``build`` and those of ``image``.

    Words of ``build`` that begin with ``RUN`` are a script's text.
    """

    dockerfile: str
    build: Sequence[str] = ()
    image: Sequence[str] = ()
    ignored: str = ""
    podman: Sequence[str] = ()


def ours(user: User, words: Sequence[str]) -> list[str | Path]:
    """Write the scripts among the words of ``build``."""
    made: list[str | Path] = []
    for number, word in enumerate(words):
        if word.startswith("RUN "):
            made += ["--script", user.script(word.removeprefix("RUN "), f"script-{number}")]
        else:
            made.append(word)
    return made


SEEN = 'echo "$(id):$GREETING:$PATH:$PWD:$HOME" > /tmp/seen; touch relative || true'
INSTRUCTIONS: dict[str, Row] = {
    "RUN": Row(f"RUN {SEEN}", [f"RUN {SEEN}"]),
    "RUN, as words": Row('RUN ["/bin/touch", "/a b", "c"]', ["--", "/bin/touch", "/a b", "c"]),
    "ENV": Row(
        'ENV A=1 GREETING="x y"\nRUN echo "$A:$GREETING" > /seen',
        ["--env", "A=1", "--env", "GREETING=x y", 'RUN echo "$A:$GREETING" > /seen'],
        ["--env", "A=1", "--env", "GREETING=x y"],
    ),
    "ARG": Row("ARG A=1\nRUN echo $A > /seen", ["--env", "A=1", "RUN echo $A > /seen"]),
    "USER": Row(
        f"USER app\nRUN {SEEN}; touch /tmp/mine; touch /none || true",
        ["--user", "app", f"RUN {SEEN}; touch /tmp/mine; touch /none || true"],
        ["--user", "app"],
    ),
    "USER, by numbers": Row(f"USER 7:8\nRUN {SEEN}", ["--user", "7:8", f"RUN {SEEN}"], ["--user", "7:8"]),
    "USER, unknown": Row(f"USER 4321\nRUN {SEEN}", ["--user", "4321", f"RUN {SEEN}"], ["--user", "4321"]),
    "USER with a group": Row(f"USER app:extra\nRUN {SEEN}", ["--user", "app:extra", f"RUN {SEEN}"], ["--user", "app:extra"]),
    "WORKDIR": Row(
        "WORKDIR made/here\nRUN pwd > seen", ["--workdir", "made/here", "RUN pwd > seen"], ["--workdir", "/srv/app/made/here"]
    ),
    "WORKDIR, through a link": Row("WORKDIR /link/x\nRUN pwd > seen", ["--workdir", "/link/x", "RUN pwd -P > seen"], ["--workdir", "/link/x"]),
    "SHELL": Row(
        'SHELL ["/bin/ash", "-uc"]\nRUN echo "$0:$-" > /seen',
        ["--shell", '["/bin/ash", "-uc"]', 'RUN echo "$0:$-" > /seen'],
        ["--config", '{"Shell": ["/bin/ash", "-uc"]}'],
    ),
    "properties": Row(
        'LABEL a="b c"\nEXPOSE 80 53/udp\nENTRYPOINT ["/e", "x"]\nCMD ["c"]\nSTOPSIGNAL SIGUSR1\nVOLUME /data\nONBUILD RUN x',
        [],
        [
            "--label", "a=b c", "--expose", "80", "--expose", "53/udp", "--entrypoint", '["/e", "x"]', "--cmd", '["c"]',
            "--stop-signal", "SIGUSR1", "--volume", "/data", "--config", '{"OnBuild": ["RUN x"]}',
        ],
    ),
    "HEALTHCHECK": Row(
        'HEALTHCHECK --interval=5s CMD ["x"]', [], ["--config", '{"Healthcheck": {"Test": ["CMD", "x"], "Interval": 5000000000}}']
    ),
}  # fmt: skip
COPIES: dict[str, Row] = {
    "a file": Row("COPY a /new/dir/file", ["--copy", "a:/new/dir/file"]),
    "a file into a directory": Row("COPY a /new/dir/", ["--copy", "a:/new/dir/"]),
    "a file onto a directory": Row("COPY a /srv/there", ["--copy", "a:/srv/there"]),
    "a file onto a file": Row("COPY a /srv/there/file", ["--copy", "a:/srv/there/file"]),
    "below the working directory": Row("COPY a x\nCOPY a .\nCOPY a y/", ["--copy", "a:x", "--copy", "a:.", "--copy", "a:y/"]),
    "a directory": Row("COPY sub /new", ["--copy", "sub:/new"]),
    "a directory into one that is there": Row("COPY sub/ /srv/there", ["--copy", "sub/:/srv/there"]),
    "all": Row("COPY . /all", ["--copy", ".:/all"]),
    "all to the top": Row("COPY . /", ["--copy", ".:/"]),
    "through a link of the tree": Row("COPY a /link/x\nCOPY sub /link", ["--copy", "a:/link/x", "--copy", "sub:/link"]),
    "links": Row("COPY to-a /l/a\nCOPY to-sub /l/sub", ["--copy", "to-a:/l/a", "--copy", "to-sub:/l/sub"]),
    "a pattern": Row("COPY *.txt /p/", ["--copy", "*.txt:/p/"]),
    "a pattern of one": Row("COPY ? /p/\nCOPY sub/dee[p]/*.txt /q", ["--copy", "?:/p/", "--copy", "sub/dee[p]/*.txt:/q"]),
    "a pattern of all": Row("COPY * /p/", ["--copy", "*:/p/"]),
    "a pattern of directories": Row("COPY o*/?/y /p/", ["--copy", "o*/?/y:/p/"]),
    "chown by name": Row("COPY --chown=app sub /srv/there\nCOPY --chown=app a /n/m/", ["--copy", "sub:/srv/there:chown=app", "--copy", "a:/n/m/:chown=app"]),
    "chown with a group": Row("COPY --chown=app:extra a /x", ["--copy", "a:/x:chown=app:extra"]),
    "chown by number": Row("COPY --chown=7 a /x\nCOPY --chown=7:8 a /y", ["--copy", "a:/x:chown=7", "--copy", "a:/y:chown=7:8"]),
    "chmod": Row("COPY --chmod=0640 a /x\nCOPY --chmod=751 sub /srv/there", ["--copy", "a:/x:chmod=0640", "--copy", "sub:/srv/there:chmod=751"]),
    "chown and chmod": Row("COPY --chown=7:8 --chmod=600 a /x", ["--copy", "a:/x:chmod=600:chown=7:8"]),
    "before the script": Row("COPY a /x\nRUN chown 5:6 /x; cp /x /y", ["--copy", "a:/x", "RUN chown 5:6 /x; cp /x /y"]),
    "one over the other": Row("COPY a /x\nCOPY b.txt /x\nCOPY sub /d\nCOPY b.txt /d/d", [
        "--copy", "a:/x", "--copy", "b.txt:/x", "--copy", "sub:/d", "--copy", "b.txt:/d/d",
    ]),
    "ADD": Row("ADD a sub /add/", ["--copy", "a:/add/", "--copy", "sub:/add/"]),
}  # fmt: skip


def mounted(words: str, script: str, *podman: str) -> Row:
    """A row of a mount at a place that is not there, as podman 4 removes others; the words and the script are the same in both."""
    return Row(f"RUN --mount={words} {script}", ["--mount", words, f"RUN {script}"], podman=podman)


LOOK = "stat -c '%F %a %u:%g' /srv/new /srv/new/* > /seen; cat /srv/new/f >> /seen; touch /srv/new/more"
MOUNTS: dict[str, Row] = {
    "a bind": mounted("type=bind,source=sub/deep,target=/srv/new", "cat /srv/new/e > /seen; touch /srv/new/x || touch /kept"),
    "a bind of a file": mounted("source=b.txt,target=/srv/new,ro", "cat /srv/new > /seen"),
    "a cache": mounted("type=cache,target=/srv/new,id=one", f"echo 1 > /srv/new/f; chmod 640 /srv/new/f; {LOOK}"),
    "a cache with a mode": mounted("type=cache,dst=/srv/new,id=two,mode=0750,sharing=locked", "stat -c %a:%u:%g /srv/new > /seen"),
    "memory": mounted("type=tmpfs,target=/srv/new", "ls -A /srv/new > /seen; touch /srv/new/f"),
    "a secret": mounted(
        "type=secret,id=one,target=/srv/new", "stat -c %a:%u:%g /srv/new > /seen; test -s /srv/new", "--secret", "id=one,env=HOME"
    ),
}  # fmt: skip
IGNORED: dict[str, str] = {
    "names": "a\nsub",
    "patterns": "*.txt\n*/deep\n",
    "any depth": "**/*.txt\n",
    "a directory's contents": "sub/**\n",
    "an exception": "*\n!b.txt\n",
    "an exception in a directory": "sub\n!sub/deep/e\n",
    "the last one counts": "!a\na\n!c.txt\n*.txt\n",
    "comments and blanks": "# a\n\n  c.txt  \n/a\nsub/../b.txt\nother/\n",
    "deep ones": "**/y\n**/deep/f*\n",
    "classes": "[a-b]*\n[^c].txt\n\\[x]\n?idden\n",
    "no children": "*/*\n",
    "all but": "**\n!other/x\n",
}


def compare(builder: Builder, users: Sequence[User], row: Row, context: Path) -> None:
    """Build a row in both ways, as everybody, and compare."""
    if row.ignored:
        (context / ".dockerignore").write_text(row.ignored)
    builder.by_podman(row.dockerfile, context, *row.podman)
    layer: list[str | Path] = []
    digests = set()
    for user in users if row.build else ():
        words = ours(user, row.build)
        result = user.build("--base", builder.base, *words, cwd=context, env={"one": "secret"})
        digests.add(result.layer["digest"])
        layer = ["--layer", user.home / "layer"]
    assert len(digests) == bool(row.build)
    builder.load(users[-1], *layer, *row.image)
    found, expected = builder.trees()
    assert {path: found.get(path) for path in found.keys() | expected if found.get(path) != expected.get(path)} == {}, expected
    assert len(found) > 10
    one, other = builder.configs()
    assert one == other


@pytest.mark.parametrize("name", todays([*INSTRUCTIONS], 5))
def test_an_instruction(builder: Builder, users: list[User], context: Path, name: str) -> None:
    """The layer and the config of an instruction are those of podman's build."""
    compare(builder, users, INSTRUCTIONS[name], context)


@pytest.mark.parametrize("name", todays([*COPIES], 8))
def test_a_copy(builder: Builder, users: list[User], context: Path, name: str) -> None:
    """Files go where COPY puts them, with its owners and modes; who owns them on this machine is nobody's business."""
    compare(builder, users, COPIES[name], context)


@pytest.mark.parametrize("name", todays([*MOUNTS], 2))
def test_a_mount(builder: Builder, users: list[User], context: Path, name: str) -> None:
    """The words of RUN's --mount mean the same, and none of what is mounted is in the image."""
    compare(builder, users, MOUNTS[name], context)


@pytest.mark.parametrize("name", todays([*IGNORED], 4))
def test_what_is_ignored(builder: Builder, users: list[User], context: Path, name: str) -> None:
    """What .dockerignore leaves out is not copied, in its own language."""
    (context / "[x]").write_text("brackets")
    (context / "sub/deep").chmod(0o755)  # an engine of podman's makes the directories above an exception anew
    compare(builder, users, Row("COPY . /all/", ["--copy", ".:/all/"], ignored=IGNORED[name]), context)


STAGES = """FROM base AS builder
RUN mkdir -p /out/d /out/e; echo app > /out/app; chmod 750 /out/d; chown 7:8 /out/app /out/d; ln -s ../app /out/d/link
FROM base
COPY --from=builder /out/app /usr/bin/app
COPY --from=builder /out /srv/there
COPY --from=builder --chown=app /out/d/link /link/
"""
MAKE = """
[layer.builder]
base = "{base}"
run = '''{run}'''

[layer.app]
base = "{base}"
copy-from = [
    "builder:/out/app:/usr/bin/app",
    "builder:/out:/srv/there",
    {{ from = "builder", source = "/out/d/link", dest = "/link/", chown = "app" }},
]
output = "layer"
"""


def test_stages(builder: Builder, users: list[User], context: Path) -> None:
    """Files of one stage are copied into another, with their owners: a target of make's, by its name."""
    run = STAGES.splitlines()[1].removeprefix("RUN ")
    digests = set()
    for user in users:
        good(make(user, MAKE.format(base=builder.base, run=run), "app"))
        digests.add(json.loads((user.home / "layer/layer.json").read_text())["digest"])
    assert len(digests) == 1
    builder.by_podman(STAGES, context)
    builder.load(users[-1], "--layer", users[-1].home / "layer")
    one, other = builder.trees()
    assert one == other


def test_the_page_has_every_instruction() -> None:
    """The table of docs/dockerfile.md says of each instruction what stands for it here, and what is compared is in it."""
    page = Path(__file__, "../../../docs/dockerfile.md").resolve().read_text()
    said = {line.split("`")[1].split()[0] for line in page.splitlines() if line.startswith("| `")}
    known = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR"
    assert set(known.split()) <= said
    words = [word for row in (*INSTRUCTIONS.values(), *COPIES.values()) for word in (*row.build, *row.image)]
    assert {word for word in words if word.startswith("--") and word != "--"} <= {
        *shlex.split(page.replace("`", " ").replace("'", " ").replace('"', " "))
    }
