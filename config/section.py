"""The base class of the configuration's sections, and types that they share. Reads the environment variables that paths
name; writes nothing.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


def expanded(text: str) -> str:
    """Return a path with `~`, `$NAME` and `${NAME}` expanded; `$$` is a dollar sign.

    ValueError for a blank path, an undefined variable, an unknown user and a NUL character.
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name = match[2] or match[3]
        if name not in os.environ:
            raise ValueError(
                f"'{text}' names the environment variable {name}, which is not set (write $$ for a dollar)"
            )
        return os.environ[name]

    path = _VARIABLE.sub(value, text)
    if text.startswith("~"):
        path = os.path.expanduser(path)
        if path.startswith("~"):
            raise ValueError(f"'{text}': there is no such user (write ./{text} for a name that begins so)")
    if not path.strip():
        raise ValueError(f"'{text}' is an empty path; leave the key out, or give a path")
    if "\0" in path:
        raise ValueError(f"{text!r} has a NUL character, which no path can have")
    return path


def _expanded(value: Any) -> Any:
    return expanded(value) if isinstance(value, str) else value


PathText = Annotated[
    str,
    BeforeValidator(_expanded),
    # The resolved path is read again from config.json, where a dollar sign must stay one.
    PlainSerializer(lambda path: path.replace("$", "$$"), return_type=str, when_used="json"),
]
"""A path in the configuration: `~` and environment variables are expanded once, when the configuration is read."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Width = Annotated[int, Field(ge=1, le=65_536)]
"""Width of a layer in units."""


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, and numbers are finite.

    Numbers may be written as text, because YAML takes `1e-3` for text; `true` and `yes` are not numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_as_numbers(cls, raw: Any) -> Any:
        for name, value in raw.items() if isinstance(raw, dict) else ():
            field = cls.model_fields.get(name)
            values = value if isinstance(value, list | tuple) else [value]
            if field is not None and any(isinstance(one, bool) for one in values) and _numeric(field.annotation):
                raise ValueError(f"{name}: expected a number, got {value}")
        return raw


def left_out(written: dict[str, Any], key: str, default: Any) -> dict[str, Any]:
    """Return a serialised section without a key that came later and has its default: else the digests and parameters of
    what was computed before would change."""
    return {name: value for name, value in written.items() if name != key or value != default}


def _numeric(annotation: Any) -> bool:
    """Return whether a type is a number, an optional number, or a list of numbers."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if annotation in (int, float):
        return True
    return bool(parts) and bool not in parts and str not in parts and any(_numeric(part) for part in parts)
