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
        joined = numbers[rows]
        components.join(np.stack([np.full(len(joined) - 1, joined[0]), joined[1:]], axis=1))
    together = components.firsts(np.arange(int(numbers.max(initial=-1)) + 1))
    parts = np.bincount(together, minlength=len(together))
    # The first row of each joined group names it: a video's row never changes.
    named, first = np.unique(together[numbers], return_index=True)
    position = np.searchsorted(named, together[numbers])
    return Units(first[position], parts[together[numbers]] > 1)


def write_groups(path: Path, manifest: pa.Table, units: Units) -> int:
    """Write the whole column `group` as `video_id,group`; return how many videos have one.

    A video of a joined group has the name of that group, every other one the `group` that the table of videos gave it;
    videos with neither are left out. UserError if the file exists.
    """
    refuse_existing(path)
    ids, given = manifest["video_id"].to_pylist(), manifest["group"].to_pylist()
    groups = [
        f"same as row {first}" if joined else group
        for first, joined, group in zip(units.first.tolist(), units.joined.tolist(), given, strict=True)
    ]
    named = [(video_id, group) for video_id, group in zip(ids, groups, strict=True) if group]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video_id", "group"))
        writer.writerows(named)
    return len(named)


def refuse_existing(path: Path) -> None:
    """Raise UserError if there is something at `path`."""
    if path.exists():
        raise UserError(f"--write-groups {path}: the file exists; delete it, or give another name")
