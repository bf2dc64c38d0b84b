"""The text of configuration files before YAML parses it: duplicate keys, and the text of values parsed as numbers.

Reads the configuration files of Snakemake; writes nothing. Snakemake's own parser silently takes the last of two equal
keys, and reads `results=2024_11_25` as the number 20241125.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from config.cli import UserError

Key = tuple[str, ...]
TEXT = "tag:yaml.org,2002:str"
MERGE = "tag:yaml.org,2002:merge"


def refuse_duplicates(files: Iterable[str | Path]) -> None:
    """Raise UserError with both lines for a key that occurs twice in a mapping of a file, at any level."""
    for file in files:
        text = _text(file)
        if text is None or _is_json(file, text):
            continue
        try:
            node = yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError:
            continue  # Snakemake reports it
        _check(file, node, (), set())


def _text(file: str | Path) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from None


def _is_json(file: str | Path, text: str) -> bool:
    """Return whether the text is JSON, which Snakemake tries first. UserError for a key that occurs twice in an
    object."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise UserError(f"{file}: the key '{key}' stands twice in one object; keep one of them")
            mapping[key] = value
        return mapping

    try:
        json.loads(text, object_pairs_hook=unique)
    except ValueError:
        return False
    return True


def _check(file: str | Path, node: yaml.Node | None, parents: Key, seen: set[int]) -> None:
    if node is None or id(node) in seen:  # an alias is the same mapping again
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check(file, item, (*parents, str(index)), seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        line = key.start_mark.line + 1
        if name and key.tag != MERGE:
            if first := lines.get((key.tag, name)):
                dotted = ".".join((*parents, name))
                raise UserError(
                    f"{file}: the key '{dotted}' stands twice, in lines {first} and {line}; keep one of them"
                )
            lines[key.tag, name] = line
        _check(file, value, (*parents, name), seen)


def written(files: Iterable[str | Path], arguments: Iterable[str]) -> dict[Key, str]:
    """Return the text of every value that YAML or Snakemake does not parse as text, by key.

    `arguments`: those of `--config`, NAME=VALUE each, which override the files.
    """
    texts: dict[Key, str] = {}
    for file in files:
        try:
            _collect(yaml.compose(_text(file) or "", yaml.SafeLoader), (), texts)
        except yaml.YAMLError:
            continue
    for argument in arguments:
        name, _, value = argument.partition("=")
        texts[(name,)] = value
    return texts


def _collect(node: yaml.Node | None, parents: Key, texts: dict[Key, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _collect(value, (*parents, str(key.value)), texts)
    elif isinstance(node, yaml.ScalarNode) and node.tag != TEXT and node.value:
        texts[parents] = node.value
