"""Open a source of any kind, and take the features of segments from its rows. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from config.cli import UserError
from pipeline.backbones.feature_files.base import KINDS, Columns, FeatureFile
from pipeline.backbones.feature_files.folder import Folder
from pipeline.backbones.feature_files.tables import HDF5, Parquet


def open_features(path: Path, columns: Columns, key: str) -> FeatureFile:
    """Open a source of features. UserError for another kind of file, or one without what `columns` names."""
    if path.is_dir():
        return Folder(path, columns, key)
    if path.suffix == ".parquet":
        return Parquet(path, columns, key)
    if path.suffix in (".h5", ".hdf5"):
        return HDF5(path, columns, key)
    raise UserError(f"{key}.weights: {path} is not {KINDS}")


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
    for number, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        mine, times = row[low:high], start[low:high]
        if not np.isfinite(times).all():
            raise source.wrong(f"a start time of '{ids[number]}' is not a finite number", "start")
        if (np.diff(times) == 0).any():
            what = f"start at {times[:-1][np.diff(times) == 0][0]:g} s" if starts is not None else "have no start times"
            raise source.wrong(f"two rows of '{ids[number]}' {what}", "start")
        for slot in range(slots):
            chosen = mine if starts is None else mine[rows_of_segment(times, starts[number, slot], seconds, reach)]
            pairs.append((chosen, number * slots + slot))
    rows = np.concatenate([np.empty(0, np.int64), *(chosen for chosen, _ in pairs)])
    owners = np.concatenate([np.empty(0, np.int64), *(np.full(len(chosen), slot) for chosen, slot in pairs)])
    order = np.argsort(rows, kind="stable")
    rows, owners = rows[order], owners[order]
    sums = np.zeros((len(ids) * slots, source.columns.dim))
    for some, values in source.read(np.unique(rows)):
        low, high = np.searchsorted(rows, some[0]), np.searchsorted(rows, some[-1], side="right")
        np.add.at(sums, owners[low:high], values[np.searchsorted(some, rows[low:high])])
    counts = np.bincount(owners, minlength=len(sums))
    with np.errstate(over="ignore"):  # infinite, which the caller reports
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
