"""A hook of mkdocs: what a docstring names by a role of Sphinx is a link where the reference has it, and code elsewhere."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:class|data|func|meth|mod):<code>[~.]?([\w.]+)</code>")
_ANCHOR = re.compile(r'id="(rootless_layer(?:\.\w+)*)"')
_PLACES = ("", "rootless_layer.", "rootless_layer.errors.")


def on_page_content(html: str, **_: object) -> str:
    """Give a page with the links."""
    anchors = set(_ANCHOR.findall(html))

    def link(found: re.Match[str]) -> str:
        name = found[1]
        code = f"<code>{name.rpartition('.')[2] if name.startswith('rootless_layer.') else name}</code>"
        anchor = next((place + name for place in _PLACES if place + name in anchors), None)
        return code if anchor is None else f'<a href="#{anchor}">{code}</a>'

    return _ROLE.sub(link, html)
