"""What is kept between builds is found again exactly when it is the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import assert_said
from helpers.caches import SCRIPT, cached, entries, place
from helpers.place import remove
from helpers.stores import Store, files
from helpers.users import COMMAND, User

from rootless_layer import (  # fmt: skip
    Image,
    LayerSpec,
    build_layer,
    open_layer,
)
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.build import build_cached
from rootless_layer.cache.layers import LayerCache
from rootless_layer.errors import SourceError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.system.temporary import Temporary

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shell(shell_store: Store) -> Store:
    """A closure with a shell and coreutils."""
    return shell_store


@pytest.mark.parametrize("more", [(), ("--blob", "derived", "--compression", "zstd"), ("--compression", "gzip:1", "--uid", "7")])
def test_a_cached_layer_is_the_same_as_without(user: User, shell: Store, accounts: Path, more: tuple[str, ...]) -> None:
    """The output of --cache, built or found, has the bytes and modes of a build without; when found, no script runs."""
    words = [*shell.options, "--copy-to-root", accounts, "--view", "directory", "--script", user.script(SCRIPT), *more]
    plain = user.build(*words, output="plain")
    built, found = cached(user, *words, output="built"), cached(user, *words, output="found")
    assert plain.layer == built.layer == found.layer
    assert "RAN" in plain.err
    assert "RAN" in built.err
    assert found.err == ""
    assert files(user.home / "plain") == files(user.home / "built") == files(user.home / "found")
    listed = [user.build(*words, *how, "--list", output="listed").layer for how in ((), ("--cache",))]
    assert listed[0] == listed[1]
    kept = [
        path
        for path in (place(user) / "layers").rglob("*")
        if path.is_file() and path.name not in {"layer.json", "cache.json", "key.json", "segments"}
    ]
    assert kept
    for path in kept:  # nothing was copied
        assert path.stat().st_nlink == 4, path


def test_a_layers_names_are_not_in_its_key_but_in_its_description(user: User, accounts: Path) -> None:
    """A layer that is found by other names of its sources says those names, as a build of its own would."""
    shutil.copytree(accounts, user.home / "copy")
    cached(user, "--copy-to-root", accounts)
    found = cached(user, "--copy-to-root", user.home / "copy")
    assert len(entries(user)) == 1
    assert found.layer == user.build("--copy-to-root", user.home / "copy", output="plain").layer


def test_a_base_is_not_opened_for_a_layer_that_is_found(user: User, accounts: Path) -> None:
    """A layer upon a base is found by the base's chain ID alone, and is as it would be without the cache."""
    user.build("--copy-to-root", accounts, output="base")
    words = [
        "--base",
        user.home / "base",
        "--script",
        user.script("rm etc/shadow\nchown 3:4 etc/passwd\n"),
        "--view",
        "directory",
    ]
    plain, built = user.build(*words, output="plain"), cached(user, *words, output="built")
    remove(place(user) / "snapshots")
    found = cached(user, *words, output="found")
    assert not (place(user) / "snapshots").exists()
    assert plain.layer == built.layer == found.layer
    assert files(user.home / "plain") == files(user.home / "built") == files(user.home / "found")


def test_a_found_layer_has_the_modes_of_the_umask(user: User, accounts: Path) -> None:
    """Files are linked only where their modes are what a build would give."""
    for umask in (0o077, 0o022):
        user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *COMMAND, "build", "--cache", "--copy-to-root", accounts,
                  "-o", f"layer-{umask}"])  # fmt: skip
        user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *COMMAND, "build", "--copy-to-root", accounts,
                  "-o", f"plain-{umask}"])  # fmt: skip
        assert files(user.home / f"layer-{umask}") == files(user.home / f"plain-{umask}")


def test_an_input_that_changes_meanwhile_is_not_kept(tmp_path: Path, accounts: Path) -> None:
    """A layer that was built of something else than what its key says is an error, and not in the cache."""
    spec, cache = LayerSpec(copy_to_root=(str(accounts),)), LayerCache(tmp_path / "layers")
    with pytest.raises(SourceError, match="changed while"):
        cache.build("0" * 64, spec)
    assert list(cache.place.iterdir()) == []


def test_the_library_builds_through_the_cache(tmp_path: Path, accounts: Path) -> None:
    """``build_cached`` gives what ``build_layer`` does, built or found, also upon a base that is open."""
    build_layer(LayerSpec(copy_to_root=(str(accounts),)), tmp_path / "below")
    image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "below")))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("above")
    with Temporary() as temporary:
        spec = LayerSpec(
            base=open_base(image, tmp_path / "cache", temporary), copy_to_root=(str(tmp_path / "tree"), str(accounts))
        )
        plain = build_layer(spec, tmp_path / "plain")
        for name in ("built", "found"):
            layer = build_cached(spec, tmp_path / name, tmp_path / "cache")
            assert layer.to_json() == plain.to_json()
            assert layer.descriptor == plain.descriptor
            assert list(layer.tree) == [attrs.evolve(entry, source=None, stamp=None) for entry in plain.tree]
            assert files(tmp_path / name) == files(tmp_path / "plain")
    assert len(list((tmp_path / "cache/layers").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_named(user: User, accounts: Path) -> None:
    """Where the cache has no place the build says so, and what to do."""
    (user.home / "file").write_text("")
    result = cached(user, "--copy-to-root", accounts, env={"ROOTLESS_LAYER_CACHE": f"{user.home}/file"})
    assert_said(result, 73, f"{user.home}/file/layers", "ROOTLESS_LAYER_CACHE")
    assert not (user.home / "layer").exists()
