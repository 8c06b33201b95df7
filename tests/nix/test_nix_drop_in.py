"""What an evaluation sees of the functions and of the images, as of nixpkgs' own."""

from __future__ import annotations

import json
from typing import Any

from helpers.nix_pkgs import LET, Nix

TOOLS_OF = """
let
  of = system:
    let
      theirs = import <test-pkgs/pkgs.nix> { machine = <machine>; inherit system; };
      prev = theirs // {
        buildPackages = prev;
        callPackage = _file: _arguments: throw "no program for ${system}";
        dockerTools = theirs.dockerTools // { buildImage = _: "nixpkgs' own"; };
      };
      final = prev // import <rootless-layer/overlay.nix> final prev;
    in
    (builtins.tryEval "${final.dockerTools.buildImage { name = "x"; }}").value;
in
builtins.map of [ "aarch64-darwin" "x86_64-darwin" "i686-linux" "x86_64-linux" ]
"""


def evaluate(nix: Nix, expression: str) -> Any:
    """Evaluate an expression that may use ``pkgs`` and ``ours``."""
    done = nix.run("nix-instantiate", "--eval", "--strict", "--json", "-E", LET + expression)
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_where_the_program_cannot_run_nixpkgs_own_functions_stay(stores: list[Nix]) -> None:
    """On other systems the overlay is there, and evaluates nothing of the program's."""
    assert evaluate(stores[0], TOOLS_OF) == ["nixpkgs' own"] * 3 + [False]


FOR_ANOTHER = """
let
  theirs = pkgs // {
    buildPackages = pkgs;
    stdenv = pkgs.stdenv // {
      hostPlatform = { system = "aarch64-linux"; isLinux = true; isx86_64 = false; isAarch64 = true; go.GOARCH = "arm64"; };
    };
  };
  tools = (import <rootless-layer/overlay.nix> (theirs // { dockerTools = tools; }) theirs).dockerTools;
in
{
  architectures = builtins.map (image: image.rootlessImage.imageArchitecture) [
    (tools.buildImage { name = "x"; })
    (tools.streamLayeredImage { name = "x"; })
    (tools.streamLayeredImage { name = "x"; architecture = "riscv64"; })
  ];
  program = tools.rootless-layer.drvPath == (import <rootless-layer> { inherit pkgs; }).rootless-layer.drvPath;
}
"""


def test_packages_for_another_machine(stores: list[Nix]) -> None:
    """Of packages that are cross-compiled, the images are for where these run, and this machine's own program makes them."""
    assert evaluate(stores[0], FOR_ANOTHER) == {"architectures": ["arm64", "arm64", "riscv64"], "program": True}


def test_meta_is_of_the_archive(stores: list[Nix]) -> None:
    """``meta`` of an archive of layers is what was given, and its stream has none, as in nixpkgs."""
    said = evaluate(
        stores[0],
        """let image = ours.buildLayeredImage { name = "x"; meta.description = "one"; }; in
        [ image.meta image.stream.meta (ours.buildNixShellImage { drv = image; }).meta ]""",
    )
    assert said == [{"description": "one"}, {}, {}]


def test_an_image_can_be_changed(stores: list[Nix]) -> None:
    """``overrideAttrs``, ``override``, ``outputs``, ``meta`` and ``passthru`` are as of other derivations, also one after the other."""
    said = evaluate(
        stores[0],
        """builtins.map (function:
          let
            image = ours.${function} { name = "Some/Image"; tag = "1"; passthru.foo = 1; meta.description = "one"; };
            changed = (image.overrideAttrs (old: { more = "x"; passthru = old.passthru // { bar = 2; }; })).override { tag = "2"; };
          in
          {
            inherit (image) outputs foo imageName imageTag;
            inherit (image.meta) description;
            same = builtins.all (name: image ? ${name}) (builtins.attrNames image.passthru);
            passed = image.passthru.imageTag;
            changed = [ changed.bar changed.foo changed.imageTag changed.more (changed.drvPath != image.drvPath) ];
            forms = builtins.map (form: form.rootlessImage.name) [ image changed ];
          }) [ "buildImage" "streamImage" "buildLayeredImage" "streamLayeredImage" ]""",
    )  # fmt: skip
    for one in said:
        assert one == {
            "outputs": ["out"], "foo": 1, "imageName": "some/image", "imageTag": "1", "description": "one", "same": True,
            "passed": "1", "changed": [2, 1, "2", "x", True], "forms": ["Image-image", "Image-image"],
        }  # fmt: skip


def test_a_function_tells_its_arguments(stores: list[Nix]) -> None:
    """``functionArgs`` has all of them, of the functions of archives as well; only a name is needed."""
    said = evaluate(
        stores[0],
        """{
          build = pkgs.lib.functionArgs ours.buildImage;
          stream = pkgs.lib.functionArgs ours.streamImage;
          layered = pkgs.lib.functionArgs ours.buildLayeredImage;
          streamed = pkgs.lib.functionArgs ours.streamLayeredImage;
          database = pkgs.lib.functionArgs ours.buildLayeredImageWithNixDb;
        }""",
    )
    build, stream, layered, streamed = (said[name] for name in ("build", "stream", "layered", "streamed"))
    assert layered == streamed | {"compressor": True}
    assert build == stream
    for one in said.values():
        assert [name for name, default in one.items() if not default] == ["name"]
        assert {"fromImage", "config", "created", "extraCommands", "meta", "uid", "tag"} <= one.keys()
    assert said["database"] == layered


def test_contents_in_every_form(stores: list[Nix]) -> None:
    """Nothing, one path, lists of lists and null among them are the same as the list of those that there are."""
    said = evaluate(
        stores[0],
        """let
          inherit (pkgs) bash coreutils;
          several = form: builtins.map (image: image.rootlessImage.drvPath) [
            (ours.streamImage { name = "x"; copyToRoot = form; })
            (ours.streamLayeredImage { name = "x"; contents = form; })
          ];
        in
        {
          nothing = builtins.map several [ null [ ] [ null ] [ [ ] ] ];
          one = builtins.map several [ bash [ bash ] "${bash}" [ null bash ] ];
          two = builtins.map several [ [ bash coreutils ] [ [ bash null ] [ [ coreutils ] ] ] ];
          scripts = builtins.map several [ null ] ++ builtins.map (form: builtins.map (image: image.rootlessImage.drvPath) [
            (ours.streamImage { name = "x"; extraCommands = form; })
            (ours.streamLayeredImage { name = "x"; extraCommands = form; fakeRootCommands = form; })
          ]) [ null "" ];
        }""",
    )
    for forms in said.values():
        assert forms == [forms[0]] * len(forms)
    assert len({json.dumps(forms[0]) for forms in (said["nothing"], said["one"], said["two"])}) == 3
