"""What is known of test videos, to compare their neighbours by: genre, tags and artist.

Reads labels/ where a task has another source than the manifest; writes nothing.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from config.model import Config
from data.labels import read_labels
from eval.similarity import Label

TAGS = 1000
"""The most frequent tags are compared, not all: a collection has tens of thousands."""


def labels(table: pa.Table) -> list[Label]:
    """Return the table's labels of the videos: genre, tags (the `TAGS` most frequent) and artist."""
    kinds = []
    for kind in ("genre", "tags", "artist"):
        by_video = [{name.strip() for name in _several(value)} - {""} for value in table[kind].to_pylist()]
        count = Counter(name for names in by_video for name in names)
        classes = sorted(count, key=lambda name: (-count[name], name))[: TAGS if kind == "tags" else None]
        column = {name: number for number, name in enumerate(classes)}
        values = np.zeros((len(by_video), len(classes)), dtype=bool)
        for video, names in enumerate(by_video):
            values[video, [column[name] for name in names if name in column]] = True
        kinds.append(Label(kind, classes, values))
    return kinds


def with_labels(config: Config, table: pa.Table) -> pa.Table:
    """Return this part of the manifest with genre and tags from labels/, for tasks of another source than it."""
    paths, rows = config.paths, table["row"].to_pylist()
    for task, column in (("genre", "genre"), ("tagging", "tags")):
        if task not in config.labels.tasks or config.labels.task(task).source == "manifest":
            continue
        known = read_labels(paths, task)
        by_row = dict(zip(known.rows.tolist(), known.values, strict=True))
        names = [[known.classes[number] for number in np.flatnonzero(by_row.get(one, []))] for one in rows]
        values = names if column == "tags" else [next(iter(of_video), None) for of_video in names]
        table = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    return table


def _several(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
