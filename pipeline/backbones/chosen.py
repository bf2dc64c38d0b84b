"""The backbones that a configuration names, each with its kind and its resolved options. Reads and writes nothing.

`backbones.<name>` names an array of the store; its `kind`, by default the name, says what computes it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from config.cli import UserError
from config.heads import Modality
from pipeline.backbones.registry import REGISTRY, Entry, load_class, load_kind, resolve_options

if TYPE_CHECKING:
    from config.model import Config
    from pipeline.backbones.base import Backbone, Kind


@dataclass(frozen=True)
class Chosen:
    """A backbone of a configuration: its name, its kind with the registered entry, and its resolved options."""

    name: str
    kind: str
    entry: Entry
    options: dict[str, Any]

    @property
    def modality(self) -> Modality:
        """`audio` or `video`."""
        return self.entry.modality or cast(Modality, self.options["modality"])

    @property
    def engine(self) -> str:
        """What it runs on, as in `Entry`."""
        return str(self.options.get("engine", self.entry.engine))

    def described(self, record: dict[str, Any]) -> Chosen:
        """Return the same with what the record of its weights tells (`Kind.description`) among its options."""
        if "description" not in record:
            return self
        return replace(self, options={**self.options, "description": record["description"]})

    @property
    def identity(self) -> dict[str, Any]:
        """Its options, and its kind where that is not its name: what must make its weights and features again.

        An option that came later is left out at its default.
        """
        options = {key: value for key, value in self.options.items() if (key, value) != ("mode", "eval")}
        return options if self.kind == self.name else {"kind": self.kind, **options}

    @property
    def key(self) -> str:
        """Where it stands in the configuration, for messages."""
        return f"backbones.{self.name}"

    def load(self) -> type[Backbone]:
        """Import and return the class of its network. TypeError if there is none, because it opens no video."""
        return load_class(self.kind)

    def load_kind(self) -> type[Kind]:
        """Import and return its class, network or not."""
        return load_kind(self.kind)

    def build(self, weights: Path, device: str, threads: int) -> Backbone:
        """Return the network on its device. Raises UserError that names the key of what cannot work here."""
        with self.keyed():
            return self.load()(weights, self.options, device, threads)

    def width(self) -> int:
        """Return how many numbers a segment has. UserError for a model that does not exist."""
        with self.keyed():
            return self.load_kind().width(self.options)

    def check_segments(self, seconds: float) -> None:
        """Raise UserError if it cannot take segments of this length."""
        refusal = self.load_kind().refusal(self.options, seconds)
        if refusal is not None:
            raise UserError(f"{self.key}.{refusal}")

    @contextmanager
    def keyed(self) -> Iterator[None]:
        """Put the backbone's key before the message of a UserError, which begins with a key of its section."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.key}.{error}") from None


def chosen(config: Config, name: str) -> Chosen:
    """Return a backbone of the configuration. Raises UserError for an unknown kind, and as `resolve_options` does."""
    kind = config.backbones[name].kind or name
    if kind not in REGISTRY:
        key, what = (f"backbones.{name}.kind", f"'{kind}': no such kind") if kind != name else (f"backbones.{name}", "")
        near = difflib.get_close_matches(kind, REGISTRY, n=1)
        raise UserError(
            f"{key}: {what or 'no such kind of backbone'}; there are {', '.join(sorted(REGISTRY))}. "
            + (f"Did you mean {near[0]}? " if near else "")
            + ("" if what else "A name of your own needs `kind`, which says what computes it. ")
            + "docs/extending.md says which kind has which network (CLIP: transformers)"
        )
    options = resolve_options(kind, config.backbones[name].options, f"backbones.{name}")
    return Chosen(name, kind, REGISTRY[kind], options)
