"""What a run of the workflow leaves to look at, as lines for its end. Reads the results folder; writes nothing."""

from __future__ import annotations

import csv
from pathlib import Path

from config.paths import Paths


def stamps(paths: Paths) -> dict[Path, int]:
    """Return when each file to look at was last written, in nanoseconds; those that exist, in the order of `words`."""
    files = (paths.failures, paths.duplicates, paths.atlas, paths.study_page, paths.report / "index.html")
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}


def words(paths: Paths, before: dict[Path, int]) -> list[str]:
    """Return a line for each of these files that has been written since `before`, which is what `stamps` returned."""
    meanings = {
        paths.duplicates: "near-duplicates",
        paths.atlas: f"the map, which `make explore RESULTS={paths.results}` shows",
        paths.study_page: "the study",
        paths.report / "index.html": "the report",
    }
    lines = []
    for path, written in stamps(paths).items():
        if before.get(path) == written:
            continue
        if path != paths.failures:
            lines.append(f"{meanings[path]}: {path}")
        elif videos := len(_videos(path)):
            lines.append(f"{videos} video{'s lack' if videos > 1 else ' lacks'} features; the reasons: {path}")
    return lines


def _videos(failures: Path) -> set[str]:
    with open(failures, encoding="utf-8", newline="") as file:
        return {line["video_id"] for line in csv.DictReader(file)}
