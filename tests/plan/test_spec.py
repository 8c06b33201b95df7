"""The order of a layer says of each field what it is, where an editor shows it."""

from __future__ import annotations

import ast
import inspect
import textwrap

import attrs

from rootless_layer import LayerSpec


def test_each_field_is_described_with_its_default() -> None:
    """A docstring stands under each."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(LayerSpec))).body
    assert isinstance(definition, ast.ClassDef)
    described = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                described[name] = text
    assert [*described] == [field.name for field in attrs.fields(LayerSpec)]
    assert [name for name, text in described.items() if "default" not in text] == []
