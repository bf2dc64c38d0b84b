"""What an export holds: some videos and some backbones of the cache, read block by block. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from config.cli import progress
from data.columns import FILES
from data.splits import SPLITS
from pipeline.features import Features

BLOCK = 1000
"""Videos in memory at a time, and a row group of a Parquet file."""


@dataclass(frozen=True)
class Selection:
    """Videos `rows` (int64, ascending) with their features of `backbones`; NaN where a video or segment has none."""

    features: Features
    backbones: list[str]
    rows: np.ndarray
    paths: bool = True
    """Whether the labels have the column `path`, which names files of this machine."""

    @cached_property
    def labels(self) -> pa.Table:
        """The manifest's rows of these videos, in their order. What else it says of files only where it says it."""
        labels = self.features.labels(self.rows)
        unused = [name for name in FILES if not self.paths or labels[name].null_count == len(labels)]
        return labels.drop_columns(unused if self.paths else ["path", *unused])

    def blocks(self) -> Iterator[tuple[slice, pa.Table, dict[str, np.ndarray]]]:
        """Yield (slice of the selection, labels, {backbone: float16 [videos, segments, dim]}), BLOCK videos at a time.

        Shows the progress.
        """
        starts = range(0, len(self.rows), BLOCK)
        for start in progress(starts, len(starts), "export", "blocks"):
            part = slice(start, min(start + BLOCK, len(self.rows)))
            read = {name: self.features.numpy(name, self.rows[part]) for name in self.backbones}
            yield part, self.labels.slice(start, part.stop - start), read

    def by_split(self) -> dict[str, Selection]:
        """Return the videos of each split that has any, `train` first. Retired videos are in none."""
        split = np.array(self.labels["split"].to_pylist(), object)
        present = [name for name in SPLITS if (split == name).any()]
        return {name: replace(self, rows=self.rows[split == name]) for name in present}

    def shape(self, backbone: str) -> tuple[int, int]:
        """Return segments and dim of a backbone's features."""
        return self.features.segments, self.features.dim(backbone)

    def about(self, backbone: str) -> dict[str, Any]:
        """Return what a reader of the export should know about a backbone's features, as JSON."""
        return {
            "shape": list(self.shape(backbone)),
            "dtype": "float16",
            "key": self.features.key(backbone),
            "random_weights": self.features.random_weights(backbone),
            "weights": self.features.weights(backbone),
        }


def as_text(value: Any) -> str:
    """Return a value of the manifest as text: `|` between tags, nothing for a missing one."""
    return "|".join(value) if isinstance(value, list) else str("" if value is None else value)
