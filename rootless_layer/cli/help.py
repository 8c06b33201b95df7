"""What every verb's help ends with, and the group of the verbs."""

from __future__ import annotations

import contextlib
import errno
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from .completed import Word
from .say import reader_is_gone
from .statuses import READER_GONE, USAGE, table
from .variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EXAMPLES = {
    "rootless-layer": (
        "rootless-layer doctor",
        "rootless-layer build --rootfs debian.tar -o layer -- useradd -r redis",
        "rootless-layer image --layer layer -t redis:1 -o redis.tar",
        "podman load -i redis.tar",
    ),
    "build": (
        "rootless-layer build --rootfs debian.tar --script setup.sh -o layer",
        "rootless-layer build --closure graph --copy-to-root ./etc -o layer -- useradd -r redis",
    ),
    "image": (
        "rootless-layer image --base debian.tar --layer layer -t redis:1 --cmd redis-server -o redis.tar",
        "rootless-layer image --layer layer -t redis:1 -o - | podman load",
    ),
    "merge": ("rootless-layer merge amd64.tar arm64.tar --index redis:1 -o redis",),
    "make": ("rootless-layer make images.toml", "rootless-layer make images.toml server --refresh base --explain"),
    "run": (
        "rootless-layer run redis.tar",
        "rootless-layer run layer --base debian.tar -- sh -c 'ls -l /srv'",
    ),
    "report": ("rootless-layer report redis.tar -o report.html", "rootless-layer report old.tar new.tar -o update.html"),
    "schema": ("rootless-layer schema inspect > inspect.schema.json",),
    "validate": ("rootless-layer validate layer redis.tar",),
    "inspect": ("rootless-layer inspect redis.tar --list",),
    "sbom": ("rootless-layer sbom redis.tar --format cyclonedx -o redis.cdx.json",),
    "diff": ("rootless-layer diff old.tar new.tar#redis:1",),
    "pull": ("rootless-layer pull docker://debian:12 -o debian.tar",),
    "push": ("rootless-layer push redis.tar docker://localhost:5000/redis:1 --tls-verify=false",),
    "copy": ("rootless-layer copy docker://debian:12 docker://registry.example.com/debian:12",),
    "serve": ("rootless-layer serve redis.tar", "rootless-layer serve redis:1=layer --listen 127.0.0.1:5000 --json"),
    "cache": ("rootless-layer cache ls",),
    "completion": ("rootless-layer completion bash > ~/.local/share/bash-completion/completions/rootless-layer",),
    "doctor": ("rootless-layer doctor", "rootless-layer doctor --json"),
    "ls": ("rootless-layer cache ls --json",),
    "gc": ("rootless-layer cache gc --keep 5G",),
    "rm": ("rootless-layer cache rm /var/cache/apt sha256:77be41",),
    "explain": ("rootless-layer cache explain 3f0a1c sha256:77be41",),
    "verify": ("rootless-layer cache verify",),
    "nix-build": ('derivation { builder = "…/rootless-layer"; args = [ "nix-build" ]; layerContents = [ … ]; … }',),
    "nix-image": ('derivation { builder = "…/rootless-layer"; args = [ "nix-image" ]; imageLayers = [ … ]; … }',),
    "nix-archive": ("rootless-layer nix-archive ./result -o - | podman load",),
    "nix-export": ("rootless-layer nix-export ./result -o files.tar",),
}
_SENTENCE = 200
_JSON = """\
With --json an error is on stdout as well, one line: {"version": 1, "error": {"kind": "ScriptError", "status": 3, \
"problems": ["…"], "hint": "…"}}. The kind is ScriptError for a script's own status, UsageError for 2, and else a class of \
rootless_layer.errors. `rootless-layer schema` prints the schemas of all JSON."""


class Verb(click.Command):
    """A verb whose help ends with examples and the exit statuses, and whose words a shell completes."""

    def __init__(self, *args: Any, **settings: Any) -> None:  # noqa: ANN401 - click's
        """Take what click takes."""
        super().__init__(*args, **settings)
        for parameter in self.params:
            if parameter.type is click.STRING:
                parameter.type = Word()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; an unknown option behind a word that no option takes is one of a command without its mark."""
        given = list(args)
        ctx.allow_extra_args = True  # they are refused here, in words that say more
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            word = self._word_before(ctx, given, error.option_name)
            if not word:
                raise
            advice = f"It stands behind {word}, which no option takes: a command stands behind --, as `-- {word} …`"
            message = f"{error.message} {advice}"
            raise click.UsageError(message, ctx) from error
        if rest and not ctx.resilient_parsing:
            message = (
                f"{rest[0]}: no option takes it, and {ctx.info_name} has no place for it; write the option before it that does"
            )
            raise click.UsageError(message, ctx)
        return rest

    def _word_before(self, ctx: click.Context, given: list[str], option: str) -> str:
        """Give the first word before an option that is no option's value, where the verb takes a command; else ``""``."""
        for number in [number for number, word in enumerate(given) if word.startswith(option)]:
            with contextlib.suppress(click.UsageError):
                words = self.make_parser(ctx).parse_args(given[:number])[0].get("command")
                if isinstance(words, list | tuple) and words:  # click has a mark of its own for none
                    return str(words[0])
        return ""

    def sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Give the options as help shows them, by headings: those of the rows of a table, if a whole one is the verb's."""
        found: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)) is not None:
                title = getattr(option, "section", "") or ("Other options" if found and "Options" not in found else "Options")
                found.setdefault(title, []).append(record)
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each under its heading."""
        for title, options in self.sections(ctx).items():
            with formatter.section(title):
                formatter.write_dl(options)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(self.epilog)
        _write_end(self, ctx, formatter)


def examples(ctx: click.Context) -> tuple[str, ...]:
    """Give a verb's examples, a command each."""
    return _EXAMPLES.get(ctx.info_name or "", ())


def _write_end(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    shown = examples(ctx)
    variables = [] if ctx.parent else [f"{name:<34} {meaning}" for name, meaning in VARIABLES.items()]
    for title, lines in (
        ("Examples" if len(shown) > 1 else "Example", shown), ("Variables", variables), ("Exit status", table().split("\n")),
    ):  # fmt: skip
        if lines:
            formatter.write_paragraph()
            formatter.write(f"{title}:\n" + "".join(f"  {line.removeprefix('  ')}\n" for line in lines))
    if any("--json" in parameter.opts for parameter in command.params):
        formatter.write_paragraph()
        formatter.write_text(_JSON)


class Verbs(click.Group):
    """A group of verbs: what it does not know it compares with what it knows."""

    command_class = Verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; where there are none, help a person, with status 2."""
        if not args and not ctx.resilient_parsing:
            with contextlib.suppress(OSError):
                click.echo(ctx.get_help(), err=True)
            raise click.exceptions.Exit(USAGE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb. click would end with 1 where the reader of stdout has gone away; a shell expects 141."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if reader_is_gone():
                raise click.exceptions.Exit(READER_GONE) from error
            raise OSError(errno.EIO, "a process of this program has ended early") from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that is meant, or say which it may be."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib  # noqa: PLC0415 - for errors only

            names = self.list_commands(ctx)
            close = difflib.get_close_matches(args[0], names, 1)
            advice = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
            raise click.UsageError(f"there is no verb {args[0]}; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each verb does, as far as its first sentence goes; click would cut that."""
        for title, names in self.grouped(ctx).items():
            with formatter.section(title):
                formatter.write_dl([(name, self.first_sentence(ctx, name)) for name in names])

    def grouped(self, ctx: click.Context) -> Mapping[str, Sequence[str]]:
        """Give the verbs' names by headings."""
        return {"Commands": self.list_commands(ctx)}

    def first_sentence(self, ctx: click.Context, name: str) -> str:
        """Give what a verb does, shortly."""
        verb = self.get_command(ctx, name)
        return "" if verb is None else verb.get_short_help_str(_SENTENCE)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit statuses."""
        _write_end(self, ctx, formatter)


class LazyVerbs(Verbs):
    """A group whose verbs are loaded when they are asked for (click, "Lazily Loading Subcommands")."""

    def __init__(self, *, verbs: Mapping[str, tuple[str, str]], groups: Mapping[str, Sequence[str]], **settings: Any) -> None:  # noqa: ANN401 - click's
        """Take, by the verbs' names, the module beside this one that has each, and the first sentence of its help.

        ``groups`` has the names by the headings under which help shows them.
        """
        super().__init__(**settings)
        self.verbs, self.groups = verbs, groups

    def grouped(self, _ctx: click.Context) -> Mapping[str, Sequence[str]]:
        """Give the verbs' names by headings."""
        return self.groups

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Give the verbs' names."""
        return sorted(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a verb."""
        if cmd_name in self.verbs and cmd_name not in self.commands:
            module = import_module(f".{self.verbs[cmd_name][0]}", __package__)
            self.add_command(getattr(module, cmd_name.replace("-", "_")), cmd_name)
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Give the verbs that may be meant, none of which is loaded for it, and this group's options."""
        verbs = [CompletionItem(name, help=text) for name, (_, text) in self.verbs.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def first_sentence(self, _ctx: click.Context, name: str) -> str:
        """Give what a verb does, without loading it."""
        return self.verbs[name][1]
