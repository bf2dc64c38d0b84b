"""Groups of videos: the unit of splits, folds, bootstrap and permutation. Reads and writes nothing.

Videos of one group (an artist, a channel, a source, a recording) resemble each other: they are no independent evidence,
and a test video whose group was trained on is no new one. A video's group is its `group` in the table of videos, and
by default its `artist`, both in the normal form of data/names.py; without either it is a group of its own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.names import group_of

ALONE = group_of("", None)
"""What `group_of` makes of a video without a name."""


def group_keys(videos: pa.Table) -> list[str]:
    """Return the group of each video, as text; splits are drawn by it.

    `videos` has the columns `video_id`, `artist` and `group` of a manifest, in any order of rows.
    """
    named: dict[tuple[str | None, str | None], str] = {}  # each spelling is normalised once
    keys = []
    columns = (videos[name].to_pylist() for name in ("video_id", "artist", "group"))
    for video_id, artist, group in zip(*columns, strict=True):
        if (artist, group) not in named:
            named[artist, group] = group_of("", artist, group)
        keys.append(group_of(video_id, None) if named[artist, group] == ALONE else named[artist, group])
    return keys


def group_numbers(videos: pa.Table) -> np.ndarray:
    """Return the groups of a manifest's rows as numbers from 0, equal for videos of one group: int64 [rows].

    Columns as in `group_keys`. All statistics take their units from here.
    """
    keys = group_keys(videos)
    number_of = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.fromiter((number_of[key] for key in keys), np.int64, len(keys))


def renumbered(groups: np.ndarray) -> np.ndarray:
    """Return the groups of some of the videos, int64 [videos], numbered from 0 without gaps."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)
