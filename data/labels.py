"""What the probes predict: the genre, or the most frequent tags, of every video for which they are known.

Reads the manifest and, where the configuration names them, the Million Song Dataset's files (data/msd/). Writes
  labels/TASK.parquet  row, video_id, labels (list of text), msd_track_id and matched (`manifest`, `msd_track_id` or
                       `artist_title`: how the video came by its labels); one line a labelled video, ascending by row
  labels/TASK.json     last: classes with their counts in each split, how videos were matched, what was dropped
A video without known labels is left out; one with other tags than the chosen ones stays, with an empty list.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.files import read_json, replacing, write_json
from config.labels import GenreLabels, Labels, TagLabels
from config.model import Config, read
from config.paths import Paths
from data.manifest import read_manifest
from data.msd import TRACK_ID
from data.msd.lastfm import read_tags
from data.msd.summary import find_songs, song
from data.msd.text import read_genres, read_tracks

log = logging.getLogger("labels")
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("video_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("msd_track_id", pa.string()),
        ("matched", pa.string()),
    ]
)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Match:
    """The tracks of the Million Song Dataset that a video may be, and how they were found."""

    tracks: list[str]
    how: str


@dataclass(frozen=True)
class Found:
    """Labels of one video, the track they belong to (None for the manifest's own), and how it was matched."""

    labels: list[str]
    track: str | None
    how: str


def match_tracks(
    videos: list[dict[str, Any]], summary: Path | None, where: Path
) -> tuple[list[Match | None], dict[str, int]]:
    """For each video of the manifest `where` its tracks or None, and counts of what was found how.

    `msd_track_id` decides where there is one; otherwise artist and title do, if there is a `summary`.
    """
    matches: list[Match | None] = [None] * len(videos)
    songs = [None] * len(videos) if summary is None else [song(v["artist"], v["title"]) for v in videos]
    for i, video in enumerate(videos):
        if track := (video["msd_track_id"] or "").strip():
            if not TRACK_ID.fullmatch(track):
                raise UserError(
                    f"{where}: the msd_track_id {track!r} of video '{video['video_id']}' is no track id of the Million "
                    "Song Dataset (they look like TRAAAAW128F429D538); correct it in the table of videos"
                )
            matches[i], songs[i] = Match([track], "msd_track_id"), None
    known = find_songs(summary, {s for s in songs if s}) if summary and any(songs) else {}
    for i, key in enumerate(songs):
        if key in known:
            matches[i] = Match(known[key], "artist_title")
    how = Counter(m.how for m in matches if m)
    return matches, {
        "msd_track_id": how["msd_track_id"],
        "artist_title": how["artist_title"],
        "artist_title_several_tracks": sum(m is not None and len(m.tracks) > 1 for m in matches),
        "unmatched": matches.count(None),
    }


def own_labels(task: GenreLabels | TagLabels, videos: list[dict[str, Any]]) -> list[list[str] | None]:
    """The manifest's own labels of each video, or None."""
    if isinstance(task, TagLabels):
        return [list(dict.fromkeys(v["tags"])) if v["tags"] else None for v in videos]
    return [[v["genre"].strip()] if (v["genre"] or "").strip() else None for v in videos]


def file_labels(task: GenreLabels | TagLabels, tracks: set[str], dropped: Counter[str]) -> dict[str, list[str]]:
    """Labels of those of `tracks` that the task's file knows; counts in `dropped` the tracks that it takes out."""
    if isinstance(task, TagLabels):
        found = {}
        for track, tags in read_tags(Path(task.source), tracks).items():
            kept = [tag for tag, value in tags.items() if value >= task.minimum_value]
            if kept:
                found[track] = kept
            else:
                dropped["tags_below_minimum_value" if tags else "tracks_without_tags"] += 1
        return found
    genres = {track: found for track, found in read_genres(Path(task.source)).items() if track in tracks}
    several = {track for track, found in genres.items() if len(found) > 1}
    if task.two_genres == "drop":
        dropped["tracks_with_two_genres"] = len(several)
        genres = {track: found for track, found in genres.items() if track not in several}
    return {track: [found[0]] for track, found in genres.items()}


def find_labels(
    settings: Labels, name: str, manifest: pa.Table, where: Path
) -> tuple[list[Found | None], dict[str, Any]]:
    """For each video of the manifest its labels or None, and what the record says of it."""
    task, videos = settings.task(name), manifest.to_pylist()
    dropped: Counter[str] = Counter()
    facts: dict[str, Any] = {"source": task.source, "matched": None, "dropped": dropped}
    found: list[Found | None]
    files = settings.files(name)
    if not files:
        return [None if own is None else Found(own, None, "manifest") for own in own_labels(task, videos)], facts
    summary = Path(files["labels.msd_summary"]) if "labels.msd_summary" in files else None
    matches, facts["matched"] = match_tracks(videos, summary, where)
    if task.tracks:
        listed = read_tracks(Path(task.tracks))
        kept = [m and Match([t for t in m.tracks if t in listed], m.how) for m in matches]
        dropped["not_in_the_list_of_tracks"] = sum(m is not None and not m.tracks for m in kept)
        matches = [m if m and m.tracks else None for m in kept]
    if task.source == "manifest":
        owns = own_labels(task, videos)
        found = [Found(o, m.tracks[0], "manifest") if m and o else None for m, o in zip(matches, owns, strict=True)]
    else:
        known = file_labels(task, {t for m in matches if m for t in m.tracks}, dropped)
        found = []
        for match in matches:
            track = next((t for t in match.tracks if t in known), None) if match else None
            found.append(Found(known[track], track, match.how) if match and track else None)
        dropped["matched_without_labels"] = sum(
            f is None and m is not None for f, m in zip(found, matches, strict=True)
        )
    if not any(found):
        raise UserError(
            f"{', '.join(f'{key}: {path}' for key, path in files.items())}: no video of the manifest gets a label from "
            f"these files (matched: {facts['matched']}). Videos are matched by `msd_track_id`, or with "
            "`labels.msd_summary` by `artist` and `title`, columns of the table of videos."
        )
    return found, facts


def choose_classes(task: GenreLabels | TagLabels, found: list[Found | None]) -> list[str]:
    """All genres, or the `top` most frequent tags; the most frequent first, equals in alphabetical order."""
    counts = Counter(label for f in found if f for label in f.labels)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    return ordered[: task.top] if isinstance(task, TagLabels) else ordered


def alike(chosen: list[str], found: list[Found | None]) -> list[list[str]]:
    """Groups of labels of which one is chosen and which differ in nothing but case and punctuation."""
    groups: dict[str, set[str]] = {}
    for label in {label for f in found if f for label in f.labels}:
        groups.setdefault("".join(c for c in label.casefold() if c.isalnum()), set()).add(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1 and group & set(chosen))


def write_labels(config: Config, name: str) -> dict[str, Any]:
    """Find and write the labels of one task; returns the record."""
    paths, settings = Paths(Path(config.results)), config.labels
    task, manifest = settings.task(name), read_manifest(paths.manifest)
    found, facts = find_labels(settings, name, manifest, paths.manifest)
    classes = choose_classes(task, found)
    chosen = set(classes)
    lines = [
        {"row": v["row"], "video_id": v["video_id"], "labels": [x for x in f.labels if x in chosen]}
        | {"msd_track_id": f.track, "matched": f.how}
        for v, f in zip(manifest.select(["row", "video_id"]).to_pylist(), found, strict=True)
        if f
    ]
    split = dict(zip(manifest["row"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    counts = Counter((label, split[line["row"]]) for line in lines for label in line["labels"])
    record = {
        "task": name,
        **facts,
        "files": {key: {"path": path, "sha256": _sha256(Path(path))} for key, path in settings.files(name).items()},
        "videos": manifest.num_rows,
        "labelled": len(lines),
        "labelled_with_none_of_the_classes": sum(not line["labels"] for line in lines),
        "classes": [{"name": c, **{s: counts[c, s] for s in SPLITS}} for c in classes],
        "alike": alike(classes, found),
    }
    table = paths.labels(name)
    with replacing(table) as temporary:
        pq.write_table(pa.Table.from_pylist(lines, SCHEMA), temporary)
    write_json(paths.labels_record(name), record)
    return record


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class LabelTable:
    """Labels as numbers: `rows` int64 [videos] of the manifest, ascending; `values` bool [videos, classes]."""

    rows: np.ndarray
    classes: list[str]
    values: np.ndarray
    record: dict[str, Any]


def read_labels(paths: Paths, name: str) -> LabelTable:
    """The labels that `write_labels` wrote. UserError if they are missing."""
    record = read_json(paths.labels_record(name))
    if record is None:
        raise UserError(f"{paths.labels_record(name)} does not exist; run `python -m data.labels … --task {name}`")
    table = pq.read_table(paths.labels(name))
    classes = [one["name"] for one in record["classes"]]
    at = {label: i for i, label in enumerate(classes)}
    values = np.zeros((table.num_rows, len(classes)), dtype=bool)
    for i, labels in enumerate(table["labels"].to_pylist()):
        values[i, [at[label] for label in labels]] = True
    return LabelTable(table["row"].to_numpy(), classes, values, record)


def main() -> None:
    p = parser(__doc__, "data.labels")
    p.add_argument("--task", required=True, metavar="NAME", help="which labels: genre or tagging")
    args = p.parse_args()
    record = write_labels(read(args.config), args.task)
    log.info("%d of %d videos have labels; matched %s", record["labelled"], record["videos"], record["matched"])
    for one in record["classes"]:
        log.info("%s: %s", one["name"], ", ".join(f"{one[s]} {s}" for s in SPLITS))
    for group in record["alike"]:
        log.warning("kept apart: %s", ", ".join(group))


if __name__ == "__main__":
    run(main)
