"""Near-duplicates joined with the groups that splits are drawn by, for the table's column `group`.

Reads nothing; writes the CSV file that it is given. A video's copy is often by another artist or channel, and a split
must hold both: so all groups (data/groups.py) that share duplicates become one, with all their videos, not the
duplicates alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from config.cli import UserError
from config.files import replacing
from data.groups import group_numbers
from pipeline.duplicates.search import Components


@dataclass(frozen=True)
class Units:
    """The groups after joining: `first` int64 [videos of the manifest], the row of the group's first video.

    `joined` bool [videos]: the group is made of several groups of before.
    """

    first: np.ndarray
    joined: np.ndarray


def join(manifest: pa.Table, duplicates: list[np.ndarray]) -> Units:
    """Join the manifest's groups that share duplicates; `duplicates` are rows, int64 [videos], of each group."""
    numbers = group_numbers(manifest)
    components = Components(int(numbers.max(initial=-1)) + 1)
    for rows in duplicates:
        of = numbers[rows]
        components.join(np.stack([np.full(len(of) - 1, of[0]), of[1:]], axis=1))
    together = components.firsts(np.arange(int(numbers.max(initial=-1)) + 1))
    parts = np.bincount(together, minlength=len(together))
    # The first row of each joined group names it: rows are for ever.
    named, first = np.unique(together[numbers], return_index=True)
    position = np.searchsorted(named, together[numbers])
    return Units(first[position], parts[together[numbers]] > 1)


def write_groups(path: Path, manifest: pa.Table, units: Units) -> int:
    """Write `video_id,group` of every video of a joined group; return their number. UserError if the file exists."""
    refuse_existing(path)
    ids = manifest["video_id"].to_pylist()
    rows = np.flatnonzero(units.joined).tolist()
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("video_id", "group"))
        writer.writerows((ids[row], f"same as row {int(units.first[row])}") for row in rows)
    return len(rows)


def refuse_existing(path: Path) -> None:
    """Raise UserError if there is something at `path`."""
    if path.exists():
        raise UserError(f"--write-groups {path}: the file exists; delete it, or give another name")
