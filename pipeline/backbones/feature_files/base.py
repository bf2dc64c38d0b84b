"""What every source of features can be asked. Writes nothing.

All have rows of `dim` numbers. A row belongs to a video by its id and, with start times, to a second of it. A reader
finds the rows of some ids, then reads those rows, without ever holding the whole file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from config.cli import UserError

KINDS = "a Parquet table (.parquet), an HDF5 file (.h5, .hdf5), or a folder of .npy files"


@dataclass(frozen=True)
class Columns:
    """Where the features are: names of columns (Parquet) or datasets (HDF5).

    In a folder, `start` is a folder beside the features, and the other two mean nothing. `start` may be empty: a video
    has one row then.
    """

    id: str
    features: str
    start: str
    dim: int


@dataclass(frozen=True)
class Index:
    """Rows of the asked ids: `row` int64 [n], `video` int64 [n], which id, and `start` float64 [n], seconds (0 without
    start times)."""

    row: np.ndarray
    video: np.ndarray
    start: np.ndarray


class FeatureFile(ABC):
    """A source of features. Opening it checks names, types and dimension; UserError begins with `key`."""

    def __init__(self, path: Path, columns: Columns, key: str) -> None:
        self.path, self.columns, self.key = path, columns, key

    @abstractmethod
    def digests(self) -> dict[str, np.ndarray]:
        """Read everything once; return what identifies the content, as tensors of a weights file."""

    @abstractmethod
    def check_digests(self, digests: dict[str, np.ndarray]) -> None:
        """Raise UserError if the source is not the one of these digests, as far as can be told quickly."""

    @abstractmethod
    def index(self, ids: Sequence[str]) -> Index:
        """Return the rows of these ids, in any order."""

    @abstractmethod
    def read(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (some of `rows`, their features [n, dim] float); `rows` is int64, sorted and without repeats."""

    def wrong(self, message: str, option: str = "") -> UserError:
        """Return the error about an option, or about the file."""
        where = f"{self.key}.options.{option}" if option else f"{self.key}.weights"
        return UserError(f"{where}: {self.path.name}: {message}")

    def changed(self, what: str) -> UserError:
        """Return the error for a source that is no longer the one whose digest is in the cache key."""
        return UserError(
            f"{self.key}.weights: {self.path}: {what} since its digest was taken, so that this shard would not be of "
            "the features that the cache key names. Run the same `snakemake …` again: it takes the digest anew."
        )

    def check_dim(self, dim: int) -> None:
        """Raise UserError unless the source has as many numbers a row as the option says."""
        if dim != self.columns.dim:
            raise self.wrong(f"a row has {dim} numbers, not {self.columns.dim}; set `dim: {dim}`", "dim")


def within(rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return those of the sorted rows that are among the `count` rows from `first` on."""
    low, high = np.searchsorted(rows, [first, first + count])
    return rows[low:high]
