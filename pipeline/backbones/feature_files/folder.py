"""Features in a folder of `.npy` files, one a video. Reads them; writes nothing."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.backbones.feature_files.base import KINDS, Columns, FeatureFile, Index, within


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
            mine = within(rows, first, count)
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
