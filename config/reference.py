"""Write docs/configuration.md: every key of the configuration with its type, default and description.

    python -m config.reference

Reads the configuration's models (config/model.py). A test fails if the page is out of date.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.model import Config
from config.section import Section

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """# Configuration

A configuration is a YAML file for `snakemake --configfile`; single keys can be set with `--config`. All keys are
checked before a job starts. Each section below is a YAML mapping: `segments.count` means `count:` under `segments:`.
`NAME` stands for a name of your choice.

This page is written by `python -m config.reference`.
"""


def sections(model: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield (dotted path, model) of `model` and of every section inside it, in the order of the keys."""
    yield path, model
    for name, info in model.model_fields.items():
        for inner, named in _models(info.annotation):
            yield from sections(inner, ".".join(filter(None, (path, name, "NAME" if named else ""))))


def _models(annotation: Any) -> Iterator[tuple[type[Section], bool]]:
    """Yield the sections in a field's type, and whether they have names of the user's choice."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation, False
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        yield from ((section, True) for section, _ in _models(arguments[1]))
    elif origin in (Union, types.UnionType, Annotated):
        for argument in arguments:
            yield from _models(argument)


def type_text(annotation: Any) -> str:
    """Return a field's type as text: `text`, `whole number`, `list of: number`, …"""
    names = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", type(None): "nothing"}
    if annotation in names:
        return names[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(argument) for argument in arguments))
    if origin is list:
        return f"list of: {type_text(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} values: {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping of names to: {type_text(arguments[1])}"
    return "section"


def default_text(info: FieldInfo) -> str:
    """Return a field's default as YAML writes it, or `required`."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
        return ", ".join(f"`{name}`" for name in value)
    if isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
        return "`" + json.dumps([item.model_dump(mode="json") for item in value]) + "`"
    return "`" + ("null" if value is None else json.dumps(value, ensure_ascii=False)) + "`"


def page() -> str:
    """Return the text of docs/configuration.md."""
    lines, described = [HEAD], dict[type[Section], str]()
    for path, model in sections(Config):
        lines += [f"## {path or 'Top level'}", "", " ".join((model.__doc__ or "").split()), ""]
        if model in described:
            lines += [f"The keys are those of `{described[model]}`.", ""]
            continue
        described[model] = path
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, info in model.model_fields.items():
            meaning = " ".join((info.description or "").split())
            cells = (f"`{name}`", type_text(info.annotation), default_text(info), meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
