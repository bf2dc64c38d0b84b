"""Labels that the probes predict: the genre, or the most frequent tags, of every video for which they are known.

Reads the manifest and, where the configuration names them, the Million Song Dataset's files (data/msd/). Writes
  labels/TASK.parquet  row, video_id, labels (list of text), msd_track_id and matched (`manifest`, `msd_track_id` or
                       `artist_title`: how the video was matched); one line per labelled video, ascending by row;
                       with `labels.musicnn_training_list` also `musicnn_trained`: whether its track is in that list
  labels/TASK.json     last: classes with their counts in each split, how videos were matched, what was dropped
A video without known labels is left out; one with other tags than the chosen ones stays, with an empty list.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.digests import digest, write_digest
from config.files import read_json, replacing, write_json
from config.labels import GenreLabels, Labels, TagLabels
from config.model import Config, read
from config.paths import Paths
from data.manifest import active, read_manifest
from data.msd import TRACK_ID
from data.msd.lastfm import read_tags
from data.msd.summary import find_songs, song
from data.msd.text import read_genres, read_tracks
from data.splits import SPLITS

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


TRAINED = pa.field("musicnn_trained", pa.bool_())
"""Column of labels/TASK.parquet, where there is a list of MusicNN's training tracks."""


@dataclass(frozen=True)
class Match:
    """Tracks of the Million Song Dataset that match a video, and how they were matched."""

    tracks: list[str]
    how: str


@dataclass(frozen=True)
class VideoLabels:
    """Labels of one video, their track (None for the manifest's own), and how it was matched."""

    labels: list[str]
    track: str | None
    how: str


def match_tracks(
    videos: list[dict[str, Any]], summary: Path | None, where: Path
) -> tuple[list[Match | None], dict[str, int]]:
    """Return the tracks of each video of the manifest `where`, or None, and counts of matches by method.

    A video is matched by its `msd_track_id`, without one by artist and title if there is a `summary`.
    """
    matches: list[Match | None] = [None] * len(videos)
    songs = [None] * len(videos) if summary is None else [song(video["artist"], video["title"]) for video in videos]
    for position, video in enumerate(videos):
        if track := (video["msd_track_id"] or "").strip():
            if not TRACK_ID.fullmatch(track):
                raise UserError(
                    f"{where}: the msd_track_id {track!r} of video '{video['video_id']}' is no track id of the Million "
                    "Song Dataset (they look like TRAAAAW128F429D538); correct it in the table of videos"
                )
            matches[position], songs[position] = Match([track], "msd_track_id"), None
    known = find_songs(summary, set(filter(None, songs))) if summary and any(songs) else {}
    for position, key in enumerate(songs):
        if key in known:
            matches[position] = Match(known[key], "artist_title")
    how = Counter(match.how for match in matches if match)
    return matches, {
        "msd_track_id": how["msd_track_id"],
        "artist_title": how["artist_title"],
        "artist_title_several_tracks": sum(match is not None and len(match.tracks) > 1 for match in matches),
        "unmatched": matches.count(None),
    }


def own_labels(task: GenreLabels | TagLabels, videos: list[dict[str, Any]]) -> list[list[str] | None]:
    """Return the manifest's own labels of each video, or None."""
    if isinstance(task, TagLabels):
        return [list(dict.fromkeys(video["tags"])) if video["tags"] else None for video in videos]
    return [[video["genre"].strip()] if (video["genre"] or "").strip() else None for video in videos]


def file_labels(task: GenreLabels | TagLabels, tracks: set[str], dropped: Counter[str]) -> dict[str, list[str]]:
    """Return the labels by track of `tracks` from the task's file; count in `dropped` the tracks left out."""
    if isinstance(task, TagLabels):
        labels = {}
        for track, tags in read_tags(Path(task.source), tracks).items():
            kept = [tag for tag, value in tags.items() if value >= task.minimum_value]
            if kept:
                labels[track] = kept
            else:
                dropped["tags_below_minimum_value" if tags else "tracks_without_tags"] += 1
        return labels
    genres = {track: names for track, names in read_genres(Path(task.source)).items() if track in tracks}
    several = {track for track, names in genres.items() if len(names) > 1}
    if task.two_genres == "drop":
        dropped["tracks_with_two_genres"] = len(several)
        genres = {track: names for track, names in genres.items() if track not in several}
    return {track: [names[0]] for track, names in genres.items()}


def find_labels(
    settings: Labels, name: str, manifest: pa.Table, where: Path
) -> tuple[list[VideoLabels | None], dict[str, Any]]:
    """Return the labels of each video of the manifest, or None, and the record's facts about their source."""
    task, videos = settings.task(name), manifest.to_pylist()
    dropped: Counter[str] = Counter()
    facts: dict[str, Any] = {"source": task.source, "matched": None, "dropped": dropped}
    labels: list[VideoLabels | None]
    files = settings.files(name)
    if not files:
        return [None if own is None else VideoLabels(own, None, "manifest") for own in own_labels(task, videos)], facts
    summary = Path(files["labels.msd_summary"]) if "labels.msd_summary" in files else None
    matches, facts["matched"] = match_tracks(videos, summary, where)
    if task.tracks:
        listed = read_tracks(Path(task.tracks))
        kept = [match and Match([track for track in match.tracks if track in listed], match.how) for match in matches]
        dropped["not_in_the_list_of_tracks"] = sum(match is not None and not match.tracks for match in kept)
        matches = [match if match and match.tracks else None for match in kept]
    if task.source == "manifest":
        pairs = zip(matches, own_labels(task, videos), strict=True)
        labels = [VideoLabels(own, match.tracks[0], "manifest") if match and own else None for match, own in pairs]
    else:
        known = file_labels(task, {track for match in matches if match for track in match.tracks}, dropped)
        labels = []
        for match in matches:
            track = next((one for one in match.tracks if one in known), None) if match else None
            labels.append(VideoLabels(known[track], track, match.how) if match and track else None)
        dropped["matched_without_labels"] = sum(
            own is None and match is not None for own, match in zip(labels, matches, strict=True)
        )
    if not any(labels):
        raise UserError(
            f"{', '.join(f'{key}: {path}' for key, path in files.items())}: no video of the manifest gets a label from "
            f"these files (matched: {facts['matched']}). Videos are matched by `msd_track_id`, or with "
            "`labels.msd_summary` by `artist` and `title`, columns of the table of videos."
        )
    return labels, facts


def choose_classes(task: GenreLabels | TagLabels, labels: list[VideoLabels | None]) -> list[str]:
    """Return all genres, or the `top` most frequent tags, by descending frequency, ties in alphabetical order."""
    counts = Counter(label for video in labels if video for label in video.labels)
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    return ordered[: task.top] if isinstance(task, TagLabels) else ordered


def alike(chosen: list[str], labels: list[VideoLabels | None]) -> list[list[str]]:
    """Return groups of labels that differ only in case and punctuation and of which one is chosen."""
    groups: dict[str, set[str]] = {}
    for label in {label for video in labels if video for label in video.labels}:
        groups.setdefault("".join(filter(str.isalnum, label.casefold())), set()).add(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1 and group & set(chosen))


def note_files(config: Config, name: str) -> Path | None:
    """Write the digest of the files of a task's labels; return its path, None if they come from the manifest.

    Like `data.videos.note_table` for the table. OSError for a file that cannot be read.
    """
    paths, files = config.paths, config.labels.files(name)
    lines = [f"{key} {digest(path, paths.digests)}\n" for key, path in files.items()]
    return write_digest(paths.digest_of(f"labels_{name}"), "".join(lines)) if lines else None


def write_labels(config: Config, name: str) -> dict[str, Any]:
    """Find and write the labels of one task; return the record."""
    paths, settings = config.paths, config.labels
    task, manifest = settings.task(name), read_manifest(paths.manifest)
    manifest = manifest.filter(pa.array(active(manifest)))
    with suppress(OSError):  # those who read the file say what is wrong with it
        note_files(config, name)
    labels, facts = find_labels(settings, name, manifest, paths.manifest)
    classes = choose_classes(task, labels)
    chosen = set(classes)
    lines = [
        {
            **video,
            "labels": [label for label in found.labels if label in chosen],
            "msd_track_id": found.track,
            "matched": found.how,
        }
        for video, found in zip(manifest.select(["row", "video_id"]).to_pylist(), labels, strict=True)
        if found
    ]
    trained = _musicnn_trained(settings.files(name), lines)
    split = dict(zip(manifest["row"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    counts = Counter((label, split[line["row"]]) for line in lines for label in line["labels"])
    record = {
        "task": name,
        **facts,
        "files": {
            key: {"path": path, "sha256": digest(path, paths.digests)} for key, path in settings.files(name).items()
        },
        "videos": manifest.num_rows,
        "labelled": len(lines),
        "labelled_with_none_of_the_classes": sum(not line["labels"] for line in lines),
        "classes": [{"name": label, **{part: counts[label, part] for part in SPLITS}} for label in classes],
        "alike": alike(classes, labels),
    }
    schema = SCHEMA
    if trained is not None:
        schema = SCHEMA.append(TRAINED)
        seen = Counter(split[line["row"]] for line, one in zip(lines, trained, strict=True) if one)
        record["musicnn_trained"] = {part: seen[part] for part in SPLITS}
        lines = [line | {TRAINED.name: one} for line, one in zip(lines, trained, strict=True)]
    table = paths.labels(name)
    with replacing(table) as temporary:
        pq.write_table(pa.Table.from_pylist(lines, schema), temporary)
    write_json(paths.labels_record(name), record)
    return record


def _musicnn_trained(files: dict[str, str], lines: list[dict[str, Any]]) -> list[bool] | None:
    """Return whether each line's track is in the list of MusicNN's training tracks; None without that list."""
    path = files.get("labels.musicnn_training_list")
    if path is None:
        return None
    trained = read_tracks(Path(path))
    return [line["msd_track_id"] in trained for line in lines]


@dataclass(frozen=True)
class LabelTable:
    """Labels as numbers: `rows` int64 [videos] of the manifest, ascending; `values` bool [videos, classes].

    `of_msd`: whether videos were matched with tracks of the Million Song Dataset; `musicnn_trained` bool [videos]:
    which of these tracks are in the list of MusicNN's training tracks, None without that list.
    """

    rows: np.ndarray
    classes: list[str]
    values: np.ndarray
    record: dict[str, Any]
    of_msd: bool = False
    musicnn_trained: np.ndarray | None = None


def read_labels(paths: Paths, name: str) -> LabelTable:
    """Return the labels that `write_labels` wrote. UserError if they are missing."""
    record = read_json(paths.labels_record(name))
    if record is None:
        raise UserError(f"{paths.labels_record(name)} does not exist; run `python -m data.labels … --task {name}`")
    table = pq.read_table(paths.labels(name))
    classes = [entry["name"] for entry in record["classes"]]
    columns = {label: column for column, label in enumerate(classes)}
    values = np.zeros((table.num_rows, len(classes)), dtype=bool)
    for position, labels in enumerate(table["labels"].to_pylist()):
        values[position, [columns[label] for label in labels]] = True
    of_msd = table["msd_track_id"].null_count < table.num_rows
    trained = table[TRAINED.name].to_numpy() if TRAINED.name in table.column_names else None
    return LabelTable(table["row"].to_numpy(), classes, values, record, of_msd, trained)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "data.labels")
    command_line.add_argument("--task", required=True, metavar="NAME", help="which labels: genre or tagging")
    arguments = command_line.parse_args()
    record = write_labels(read(arguments.config), arguments.task)
    log.info("%d of %d videos have labels; matched %s", record["labelled"], record["videos"], record["matched"])
    for entry in record["classes"]:
        log.info("%s: %s", entry["name"], ", ".join(f"{entry[split]} {split}" for split in SPLITS))
    for group in record["alike"]:
        log.warning("kept apart: %s", ", ".join(group))


if __name__ == "__main__":
    run(main)
