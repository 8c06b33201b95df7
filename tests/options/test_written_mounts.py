"""Mounts as they are written: one value, whether it is a line, a table or an attribute."""

from __future__ import annotations

from typing import Any

import pytest

from rootless_layer import LayerSpec, Mount
from rootless_layer.errors import InputError
from rootless_layer.options.mounts import MOUNTS

WRITTEN: list[tuple[str, dict[str, Any], Mount]] = [
    ("source=a,target=/b", {"source": "a", "target": "/b"}, Mount(source="a", target="/b")),
    ("type=bind,src=a,dst=/b,ro", {"src": "a", "dst": "/b", "ro": True}, Mount(source="a", target="/b")),
    ("type=bind,src=a,destination=/b,rw=false", {"src": "a", "destination": "/b", "rw": False}, Mount(source="a", target="/b")),
    ('"src=a,b",target=/b', {"src": "a,b", "target": "/b"}, Mount(source="a,b", target="/b")),
    ("type=tmpfs,target=/b,size=2m,mode=0700", {"type": "tmpfs", "target": "/b", "size": 2 << 20, "mode": 0o700},
     Mount(type="tmpfs", target="/b", size=2 << 20, mode=0o700)),
    ("TYPE=cache,target=/b,sharing=locked,uid=5,gid=6,id=x", {"type": "cache", "target": "/b", "sharing": "locked", "uid": 5, "gid": "6", "id": "x"},
     Mount(type="cache", target="/b", sharing="locked", uid=5, gid=6, id="x")),
    ("type=cache,target=/b,readonly", {"type": "cache", "target": "/b", "readonly": "true"}, Mount(type="cache", target="/b", readonly=True)),
    ("type=cache,target=/b,rw=0", {"type": "cache", "target": "/b", "rw": "0"}, Mount(type="cache", target="/b", readonly=True)),
    ("type=secret,id=x,env=X,required", {"type": "secret", "id": "x", "env": "X", "required": True},
     Mount(type="secret", id="x", env="X", required=True)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "table", "mount"), WRITTEN)
def test_a_mount_is_written_in_two_ways(text: str, table: dict[str, Any], mount: Mount) -> None:
    """A line and a table give the value; so does a list of them, and what Nix may have as an attribute."""
    assert MOUNTS.of_text(text) == mount
    assert MOUNTS.of_toml(text) == MOUNTS.of_toml(table) == MOUNTS.of_toml([table]) == (mount,)
    if mount.type in {"cache", "secret"}:
        with pytest.raises(InputError, match=f"a {mount.type} is not for Nix"):
            MOUNTS.of_attribute([table], structured=True)
    else:
        assert MOUNTS.of_attribute([table, text], structured=True) == (mount, mount)
        assert MOUNTS.of_attribute(text, structured=False) == (mount,)


@pytest.mark.parametrize(
    "value", [1, None, {"target": 5}, {"type": "tmpfs", "target": "/x", "size": "many"}, {"a": "b"}, ['"'], ["a\nb"], True]
)
def test_what_is_no_mount(value: object) -> None:
    """Anything else is an error, whoever wrote it."""
    with pytest.raises(InputError):
        MOUNTS.of_toml(value)


@pytest.mark.parametrize(
    ("values", "place", "name", "mode"),
    [
        ({"type": "secret", "id": "a/b"}, "/run/secrets/b", "a/b", 0o400),
        ({"type": "secret", "target": "/x/y"}, "/x/y", "y", 0o400),
        ({"type": "secret", "id": "a", "env": "A"}, "", "a", 0o400),
        ({"type": "secret", "id": "a", "env": "A", "target": "/x"}, "/x", "a", 0o400),
        ({"type": "cache", "target": "/a/./b/../c//"}, "/a/c", "/a/c", 0o755),
        ({"type": "tmpfs", "target": "/a/"}, "/a", "/a", 0o1777),
        ({"type": "cache", "target": "//a", "mode": 0}, "/a", "/a", 0),
    ],
)
def test_what_follows(values: dict[str, Any], place: str, name: str, mode: int) -> None:
    """Where it is seen, which it is, and its mode follow from what is given, as BuildKit has them."""
    mount = Mount(**values)
    assert (mount.place, mount.name, mount.permissions) == (place, name, mode)


@pytest.mark.parametrize(
    "values",
    [
        {"type": "bind", "target": "/x"}, {"source": "a"}, {"source": "", "target": "/x"}, {"type": "tmpfs", "target": "x"},
        {"type": "tmpfs", "target": "/x", "mode": 0o10000}, {"type": "tmpfs", "target": "/x", "size": 0}, {"type": "secret"},
        {"type": "secret", "id": "x", "env": "A=B"}, {"type": "cache", "target": "/x", "uid": -1}, {"type": "cache", "target": "/x", "required": True},
        {"type": "ssh", "target": "/x"}, {"type": "tmpfs", "target": "/dev"}, {"type": "tmpfs", "target": "/.rootless-layer/x"},
        {"type": "tmpfs", "target": "/x\0"}, {"type": "cache", "target": "/x", "sharing": "one"}, {"type": "cache", "target": "/x", "mode": True},
    ],
)  # fmt: skip
def test_what_the_library_refuses(values: dict[str, Any]) -> None:
    """A value that no mount has is an error when the mount is made."""
    with pytest.raises(InputError):
        Mount(**values)


def test_several(tmp_path: object) -> None:
    """A spec refuses two at one place, and a cache in two ways; all else it takes in their order."""
    memory = Mount(type="tmpfs", target="/x")
    for other in (Mount(source="a", target="/y/../x"), Mount(type="secret", id="x", target="/x")):
        with pytest.raises(InputError, match="/x"):
            LayerSpec(mounts=(memory, other))
    one, two = (Mount(type="secret", id=name, env="A") for name in "ab")
    with pytest.raises(InputError, match="variable A"):
        LayerSpec(mounts=(one, two))
    kept = Mount(type="cache", target="/c")
    with pytest.raises(InputError, match="shared and locked"):
        LayerSpec(mounts=(kept, Mount(type="cache", id="/c", target="/d", sharing="locked")))
    assert LayerSpec(mounts=[memory, kept]).mounts == (memory, kept)
    with pytest.raises(InputError, match="mounts"):
        LayerSpec(mounts=(str(tmp_path),))  # type: ignore[arg-type]
