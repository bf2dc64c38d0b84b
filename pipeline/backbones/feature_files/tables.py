"""Features in one file of rows: a Parquet table, or an HDF5 file. Reads the file; writes nothing."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.backbones.feature_files.base import Columns, FeatureFile, Index, within

BLOCK = 65_536
"""Rows whose ids are read at a time."""
ROWS = 1024
"""Rows of features that are read at a time."""
SAMPLES, SAMPLE = 64, 65_536
"""Blocks, and bytes of each, that make the fingerprint of a file."""


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
            for video_id in block.drop_null().to_pylist():
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
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if not any(is_text(id_type) for is_text in texts):
            raise self.wrong(f"column '{columns.id}' is {id_type}, not text", "id")
        kind = fields[columns.features]
        fixed = pa.types.is_fixed_size_list(kind)
        lists = fixed or pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not lists or not pa.types.is_floating(kind.value_type):
            raise self.wrong(
                f"column '{columns.features}' is {kind}, not lists of float16, float32 or float64", "features"
            )
        if columns.start:
            start_type = fields[columns.start]
            if not (pa.types.is_floating(start_type) or pa.types.is_integer(start_type)):
                raise self.wrong(f"column '{columns.start}' is {start_type}, not seconds", "start")
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
            if len(within(rows, first, size)):
                offset = first
                for batch in self.file.iter_batches(ROWS, row_groups=[group], columns=[self.columns.features]):
                    mine = within(rows, offset, len(batch))
                    if len(mine):
                        lists = batch.column(0).take(pa.array(mine - offset))
                        lengths = pc.fill_null(pc.list_value_length(lists), dim).to_numpy()
                        if (lengths != dim).any():
                            row = mine[np.flatnonzero(lengths != dim)[0]]
                            raise self.wrong(f"row {row} is not a list of {dim} numbers", "features")
                        vectors = np.full((len(mine), dim), np.nan)  # a row may have none
                        there = lists.is_valid().to_numpy(zero_copy_only=False)
                        vectors[there] = lists.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
                        yield mine, vectors
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
            try:  # h5py takes ids of a fixed length for ASCII, whatever they are
                ids = list(self.ids.asstr("utf-8")[part])
            except UnicodeDecodeError as error:
                raise self.wrong(f"an id of '{self.columns.id}' is not UTF-8: {error}", "id") from None
            yield pa.array(ids, pa.string()), seconds

    def read(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
            for mine in (run[i : i + ROWS] for i in range(0, len(run), ROWS)):
                yield mine, self.features[mine[0] : mine[-1] + 1]


def fingerprint(path: Path) -> np.ndarray:
    """Return the SHA-256, uint8 [32], of a file's size and of blocks spread over it: 4 MB at most are read."""
    size = path.stat().st_size
    total = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for sample in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * sample // (SAMPLES - 1))
            total.update(file.read(SAMPLE))
    return np.frombuffer(total.digest(), np.uint8)


def _seconds(column: pa.Array) -> np.ndarray:
    """Return a column of numbers as float64, missing ones as NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
