"""Features in files that other programs wrote: a Parquet table, an HDF5 file, or a folder of `.npy`. Writes nothing.

All three have rows of `dim` numbers. A row belongs to a video by its id and, with start times, to a second of it. A
reader finds the rows of some ids, then reads those rows, without ever holding the whole file.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from config.cli import UserError

BLOCK = 65_536
"""Rows whose ids are read at a time."""
ROWS = 1024
"""Rows of features that are read at a time."""
SAMPLES, SAMPLE = 64, 65_536
"""Blocks, and bytes of each, that make the fingerprint of a file."""
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


def open_features(path: Path, columns: Columns, key: str) -> FeatureFile:
    """Open a source of features. UserError for another kind of file, or one without what `columns` names."""
    if path.is_dir():
        return Folder(path, columns, key)
    if path.suffix == ".parquet":
        return Parquet(path, columns, key)
    if path.suffix in (".h5", ".hdf5"):
        return HDF5(path, columns, key)
    raise UserError(f"{key}.weights: {path} is not {KINDS}")


class Table(FeatureFile):
    """One file of rows: what Parquet and HDF5 have in common."""

    @abstractmethod
    def blocks(self) -> Iterator[tuple[pa.Array, np.ndarray | None]]:
        """Yield ids (text) and start times (float64; None without) of consecutive rows, from the first to the last."""

    def digests(self) -> dict[str, np.ndarray]:
        self._check_ids()
        with open(self.path, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").digest()
        return {"sha256": np.frombuffer(whole, np.uint8)[None], "fingerprint": fingerprint(self.path)}

    def check_digests(self, digests: dict[str, np.ndarray]) -> None:
        if not np.array_equal(fingerprint(self.path), digests["fingerprint"]):
            raise self.changed("the file has changed")

    def index(self, ids: Sequence[str]) -> Index:
        wanted = pa.array(ids, pa.string())
        rows, videos, starts, first = [], [], [], 0
        for block, seconds in self.blocks():
            place = pc.index_in(block.cast(pa.string()), value_set=wanted)
            inside = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
            rows.append(first + inside)
            videos.append(place.drop_null().to_numpy().astype(np.int64))
            starts.append(np.zeros(len(inside)) if seconds is None else seconds[inside])
            first += len(block)
        empty = np.empty(0, np.int64)
        return Index(np.concatenate([empty, *rows]), np.concatenate([empty, *videos]), np.concatenate([[], *starts]))

    def _check_ids(self) -> None:
        """Raise UserError if an id has two rows though there are no start times."""
        seen: set[str] = set()
        if self.columns.start:
            return  # `gather` compares the times of each video's rows
        for block, _ in self.blocks():
            for video_id in block.to_pylist():
                if video_id in seen:
                    raise self.wrong(
                        f"'{video_id}' has two rows. Delete one, or name the {self.what} with the rows' start times "
                        "(seconds) in `start`",
                        "start",
                    )
                seen.add(video_id)

    what = ""
    """What a name of `columns` names, in words."""


class Parquet(Table):
    """A Parquet table: a column of ids, one of lists of floats and, if named, one of start times."""

    what = "column"

    def __init__(self, path: Path, columns: Columns, key: str) -> None:
        import pyarrow.parquet as pq

        super().__init__(path, columns, key)
        try:
            self.file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise self.wrong(f"cannot be read as Parquet: {error}") from None
        fields = {field.name: field.type for field in self.file.schema_arrow}
        for option in ("id", "features", "start"):
            name = getattr(columns, option)
            if name and name not in fields:
                raise self.wrong(f"has no column '{name}'; it has {', '.join(sorted(fields))}", option)
        id_type = fields[columns.id]
        id_type = id_type.value_type if pa.types.is_dictionary(id_type) else id_type
        if not (pa.types.is_string(id_type) or pa.types.is_large_string(id_type)):
            raise self.wrong(f"column '{columns.id}' is {id_type}, not text", "id")
        kind = fields[columns.features]
        fixed = pa.types.is_fixed_size_list(kind)
        lists = fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not lists or not pa.types.is_floating(kind.value_type):
            raise self.wrong(
                f"column '{columns.features}' is {kind}, not lists of float16, float32 or float64", "features"
            )
        if columns.start and not (pa.types.is_floating(t := fields[columns.start]) or pa.types.is_integer(t)):
            raise self.wrong(f"column '{columns.start}' is {t}, not seconds", "start")
        if fixed:
            self.check_dim(kind.list_size)
        elif self.file.metadata.num_rows:
            first = next(self.file.iter_batches(1, columns=[columns.features])).column(0)[0]
            if first.is_valid:
                self.check_dim(len(first))

    def blocks(self) -> Iterator[tuple[pa.Array, np.ndarray | None]]:
        names = [self.columns.id, *([self.columns.start] if self.columns.start else [])]
        for batch in self.file.iter_batches(BLOCK, columns=names):
            ids = batch.column(self.columns.id).cast(pa.string())
            yield ids, _seconds(batch.column(self.columns.start)) if self.columns.start else None

    def read(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first, dim = 0, self.columns.dim
        for group in range(self.file.num_row_groups):
            size = self.file.metadata.row_group(group).num_rows
            if len(_within(rows, first, size)):
                offset = first
                for batch in self.file.iter_batches(ROWS, row_groups=[group], columns=[self.columns.features]):
                    mine = _within(rows, offset, len(batch))
                    if len(mine):
                        lists = batch.column(0).take(pa.array(mine - offset))
                        lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
                        if (lengths != dim).any():
                            row = mine[np.flatnonzero(lengths != dim)[0]]
                            raise self.wrong(f"row {row} is not a list of {dim} numbers", "features")
                        yield mine, lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
                    offset += len(batch)
            first += size


class HDF5(Table):
    """An HDF5 file: datasets of ids [n], of floats [n, dim] and, if named, of start times [n]."""

    what = "dataset"

    def __init__(self, path: Path, columns: Columns, key: str) -> None:
        import h5py

        super().__init__(path, columns, key)
        try:
            # Without a lock, which network file systems often refuse: nobody writes here.
            self.file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise self.wrong(f"cannot be read as HDF5: {error}") from None
        self.ids, self.features = self._dataset("id"), self._dataset("features")
        self.starts = self._dataset("start") if columns.start else None
        if h5py.check_string_dtype(self.ids.dtype) is None or self.ids.ndim != 1:
            raise self.wrong(f"'{columns.id}' is {self.ids.dtype} {list(self.ids.shape)}, not text [rows]", "id")
        if self.features.dtype.kind != "f" or self.features.dtype.itemsize > 8 or self.features.ndim != 2:
            stored = f"{self.features.dtype} {list(self.features.shape)}"
            raise self.wrong(
                f"'{columns.features}' is {stored}, not float16, float32 or float64 [rows, dim]", "features"
            )
        if self.starts is not None and (self.starts.dtype.kind not in "fiu" or self.starts.ndim != 1):
            raise self.wrong(
                f"'{columns.start}' is {self.starts.dtype} {list(self.starts.shape)}, not seconds", "start"
            )
        self.check_dim(self.features.shape[1])
        for dataset in (self.features, self.starts):
            if dataset is not None and len(dataset) != len(self.ids):
                raise self.wrong(f"'{dataset.name}' has {len(dataset)} rows, '{self.ids.name}' has {len(self.ids)}")

    def _dataset(self, option: str) -> Any:
        """Return a dataset that lies in this very file: a digest of the file would not cover another one."""
        import h5py

        name = getattr(self.columns, option)
        link = self.file.get(name, getlink=True) if "/" not in name.strip("/") else None
        dataset = None if isinstance(link, h5py.ExternalLink) else self.file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            names: list[str] = []
            self.file.visititems(lambda path, item: names.append(path) if isinstance(item, h5py.Dataset) else None)
            raise self.wrong(f"has no dataset '{name}' of its own; it has {', '.join(names) or 'none'}", option)
        if dataset.file.id != self.file.id or dataset.external or dataset.is_virtual:
            raise self.wrong(f"dataset '{name}' lies in another file, which no digest would cover; copy it", option)
        return dataset

    def blocks(self) -> Iterator[tuple[pa.Array, np.ndarray | None]]:
        for first in range(0, len(self.ids), BLOCK):
            part = slice(first, first + BLOCK)
            seconds = None if self.starts is None else np.asarray(self.starts[part], np.float64)
            yield pa.array(list(self.ids.asstr()[part]), pa.string()), seconds

    def read(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for mine in (run[i : i + ROWS] for i in range(0, len(run), ROWS)):
                yield mine, self.features[mine[0] : mine[-1] + 1]


class Folder(FeatureFile):
    """A folder with `<video id>.npy`: [dim], or [rows, dim] with `<start>/<video id>.npy` [rows] in seconds.

    A video is looked up among the names that the folder has, so that no id can lead out of it.
    """

    def __init__(self, path: Path, columns: Columns, key: str) -> None:
        super().__init__(path, columns, key)
        if columns.start and (Path(columns.start).name != columns.start or not (path / columns.start).is_dir()):
            raise self.wrong(f"has no folder '{columns.start}' inside, with the start times", "start")
        self._known: dict[str, bytes] = {}
        self._place: list[tuple[str, int, int]] = []

    def _names(self) -> list[str]:
        """Return the files that features come from, relative to the folder, sorted."""
        names = [entry.name for entry in os.scandir(self.path) if entry.name.endswith(".npy") and entry.is_file()]
        if not names:
            raise self.wrong(f"the folder has no .npy files; it should be {KINDS}")
        starts = [f"{self.columns.start}/{name}" for name in names] if self.columns.start else []
        return sorted(names + starts)

    def digests(self) -> dict[str, np.ndarray]:
        names, sums = self._names(), []
        for name in names:
            try:
                data = (self.path / name).read_bytes()
            except FileNotFoundError:
                raise self.wrong(f"there is no file '{name}' with the start times", "start") from None
            sums.append(hashlib.sha256(data).digest())
            self._array(name, data)
        text = "\n".join(names).encode("utf-8", "surrogateescape")
        return {
            "names": np.frombuffer(text, np.uint8),
            "sha256": np.frombuffer(b"".join(sums), np.uint8).reshape(-1, 32),
        }

    def check_digests(self, digests: dict[str, np.ndarray]) -> None:
        """Take over the names and digests; each file is compared with its own when it is read."""
        names = digests["names"].tobytes().decode("utf-8", "surrogateescape").split("\n")
        self._known = {name: total.tobytes() for name, total in zip(names, digests["sha256"], strict=True)}

    def index(self, ids: Sequence[str]) -> Index:
        rows, videos, starts, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)], 0
        self._place = []
        for video, video_id in enumerate(ids):
            name = f"{video_id}.npy"
            if name not in self._known or "/" in name:
                continue
            count = len(self._load(name))
            seconds = np.zeros(count)
            if self.columns.start:
                seconds = self._load(f"{self.columns.start}/{name}").astype(np.float64)
                if len(seconds) != count:
                    raise self.wrong(f"{name} has {count} rows, but {len(seconds)} start times", "start")
            rows.append(np.arange(first, first + count))
            videos.append(np.full(count, video))
            starts.append(seconds)
            self._place.append((name, first, count))
            first += count
        return Index(np.concatenate(rows), np.concatenate(videos), np.concatenate(starts))

    def read(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for name, first, count in self._place:
            mine = _within(rows, first, count)
            if len(mine):
                yield mine, self._load(name)[mine - first]

    def _load(self, name: str) -> np.ndarray:
        """Return the array of a file, [rows, dim] or [rows]. UserError if the file is not what it was."""
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError:
            raise self.changed(f"'{name}' has gone") from None
        if hashlib.sha256(data).digest() != self._known[name]:
            raise self.changed(f"'{name}' has changed")
        return self._array(name, data)

    def _array(self, name: str, data: bytes) -> np.ndarray:
        """Parse a file, never its pickled objects. UserError if it is not what it should be."""
        try:
            array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise self.wrong(f"'{name}' cannot be read as .npy without pickled objects: {error}") from None
        if "/" in name:
            if array.ndim != 1 or array.dtype.kind not in "fiu":
                raise self.wrong(f"'{name}' is {array.dtype} {list(array.shape)}, not seconds [rows]", "start")
            return array
        if array.dtype.kind != "f" or array.dtype.itemsize > 8 or array.ndim not in (1, 2):
            raise self.wrong(
                f"'{name}' is {array.dtype} {list(array.shape)}, not float16, float32 or float64 [dim] or [rows, dim]"
            )
        array = np.atleast_2d(array)
        self.check_dim(array.shape[1])
        if len(array) != 1 and not self.columns.start:
            raise self.wrong(
                f"'{name}' has {len(array)} rows. Name the folder with the rows' start times (seconds) in `start`, or "
                "keep one row a video",
                "start",
            )
        return array


def gather(
    source: FeatureFile, ids: Sequence[str], starts: np.ndarray | None, seconds: float, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of segments, [n, segments, dim] float32, and which the source has, bool [n, segments].

    `ids` of n videos; `starts` [n, segments] in seconds, or None: a video has one row, and one segment is returned. See
    `rows_of_segment` for which rows make a segment. UserError for a video with two rows of one start.
    """
    index = source.index(ids)
    order = np.lexsort((index.start, index.video))
    row, video, start = index.row[order], index.video[order], index.start[order]
    edges = np.searchsorted(video, np.arange(len(ids) + 1))
    slots = 1 if starts is None else starts.shape[1]
    pairs: list[tuple[np.ndarray, int]] = []
    for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        mine, times = row[low:high], start[low:high]
        if not np.isfinite(times).all():
            raise source.wrong(f"a start time of '{ids[i]}' is not a finite number", "start")
        if (np.diff(times) == 0).any():
            what = f"start at {times[:-1][np.diff(times) == 0][0]:g} s" if starts is not None else "have no start times"
            raise source.wrong(f"two rows of '{ids[i]}' {what}", "start")
        for k in range(slots):
            chosen = mine if starts is None else mine[rows_of_segment(times, starts[i, k], seconds, reach)]
            pairs.append((chosen, i * slots + k))
    rows = np.concatenate([np.empty(0, np.int64), *(chosen for chosen, _ in pairs)])
    owners = np.concatenate([np.empty(0, np.int64), *(np.full(len(chosen), slot) for chosen, slot in pairs)])
    order = np.argsort(rows, kind="stable")
    rows, owners = rows[order], owners[order]
    sums = np.zeros((len(ids) * slots, source.columns.dim))
    for some, values in source.read(np.unique(rows)):
        low, high = np.searchsorted(rows, some[0]), np.searchsorted(rows, some[-1], side="right")
        np.add.at(sums, owners[low:high], values[np.searchsorted(some, rows[low:high])])
    counts = np.bincount(owners, minlength=len(sums))
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return means.reshape(len(ids), slots, -1), (counts > 0).reshape(len(ids), slots)


def rows_of_segment(times: np.ndarray, start: float, seconds: float, reach: float) -> np.ndarray:
    """Return which rows make the features of the segment from `start` on, as positions in `times` (sorted, seconds).

    All rows that start inside the segment: their mean is taken. Where there is none, the last row before it, which
    covers it if rows follow one another; before the first row, the first. A row that starts more than `reach` seconds
    before or after the segment's start is too far away, and none is returned.
    """
    low, high = np.searchsorted(times, [start, start + seconds])
    if low < high:
        return np.arange(low, high)
    nearest = low - 1 if low > 0 and start - times[low - 1] <= reach else low
    if nearest < len(times) and abs(times[nearest] - start) <= reach:
        return np.array([nearest])
    return np.empty(0, np.int64)


def fingerprint(path: Path) -> np.ndarray:
    """Return the SHA-256, uint8 [32], of a file's size and of blocks spread over it: 4 MB at most are read."""
    size = path.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for i in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * i // (SAMPLES - 1))
            total.update(file.read(SAMPLE))
    return np.frombuffer(total.digest(), np.uint8)


def _within(rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return those of the sorted rows that are among the `count` rows from `first` on."""
    low, high = np.searchsorted(rows, [first, first + count])
    return rows[low:high]


def _seconds(column: pa.Array) -> np.ndarray:
    """Return a column of numbers as float64, missing ones as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
