"""Count what the Million Song Dataset's public files say about a list of tracks, without any audio or video.

    python -m data.msd LIST [--tags lastfm_tags.db] [--genres msd_tagtraum_cd2.cls] [--summary msd_summary_file.h5]
                            [--training train_gt_msd.tsv]

LIST is a text file with one track id a line, such as `unique_tracks.txt` or the paper's `msdids.txt`. Prints how many
of its tracks are in each file, the classes with their counts in each split, and how many tracks MusicNN's weights
`wheel` were trained on: what the workflow would make of videos of these tracks. With --summary splits are by artist;
without it each track is a group of its own. Reads these files; writes nothing. docs/datasets.md says where they are.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pyarrow as pa

from config.cli import UserError, parser, run
from config.labels import GenreLabels, Labels, TagLabels
from config.pipeline import Splits
from data.groups import group_keys
from data.labels import VideoLabels, choose_classes, find_labels
from data.manifest import merge
from data.msd.summary import find_tracks
from data.msd.text import read_tracks
from data.splits import SPLITS


def manifest_of(tracks: list[str], songs: dict[str, tuple[str, str]]) -> pa.Table:
    """Return the manifest of videos of these tracks, one each. `songs`: artist and title by track, where known."""
    artists, titles = ([songs[track][i] if track in songs else None for track in tracks] for i in range(2))
    columns = {"video_id": tracks, "path": [f"/{track}" for track in tracks], "msd_track_id": tracks}
    text = {"artist": pa.array(artists, pa.string()), "title": pa.array(titles, pa.string())}
    return merge(None, pa.table(columns | text), Splits())


def report(
    tracks: set[str], labels: Labels, summary: Path | None = None, training: Path | None = None, name: str = "the list"
) -> list[str]:
    """Return what there is to say about the tracks, a line each. UserError for a file that is not what it should be."""
    songs = find_tracks(summary, tracks) if summary else {}
    manifest = manifest_of(sorted(tracks), songs)
    split = manifest["split"].to_pylist()
    lines = [f"tracks in the list: {len(tracks)}"]
    if summary:
        lines.append(f"in the summary: {len(songs)}, of {len(set(group_keys(manifest)))} artists")
    lines.append("splits: " + _by_split(Counter(split)))
    for task in labels.tasks:
        found, facts = find_labels(labels, task, manifest, Path(name))
        classes = choose_classes(labels.task(task), found)
        lines.append(
            f"{task}: tracks in the list: {len(tracks)}, in the labels: {sum(one is not None for one in found)}"
        )
        lines += [f"{task}: left out, {what.replace('_', ' ')}: {count}" for what, count in facts["dropped"].items()]
        lines += [f"{task}: {label}: {counts}" for label, counts in _classes(classes, found, split)]
    if training:
        trained = read_tracks(training)
        seen = Counter(part for part, track in zip(split, sorted(tracks), strict=True) if track in trained)
        where = f"{sum(seen.values())} of the {len(tracks)} tracks: {_by_split(seen)}"
        lines.append(f"MusicNN's weights `wheel` were trained on {where}")
    return lines


def _classes(classes: list[str], labelled: list[VideoLabels | None], split: list[str]) -> list[tuple[str, str]]:
    """Return each class with its counts in the splits, as text."""
    pairs = zip(labelled, split, strict=True)
    counts = Counter((label, part) for video, part in pairs if video for label in video.labels)
    return [(label, _by_split(Counter({part: counts[label, part] for part in SPLITS}))) for label in classes]


def _by_split(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in SPLITS)


def _arguments() -> argparse.Namespace:
    command_line = parser(__doc__, "data.msd", config=False)
    command_line.add_argument("list", type=Path, metavar="LIST", help="one track id a line")
    command_line.add_argument("--tags", type=Path, metavar="FILE", help="the Last.fm dataset's lastfm_tags.db")
    command_line.add_argument(
        "--top", type=int, default=10, metavar="N", help="most frequent tags to count (default 10)"
    )
    command_line.add_argument("--genres", type=Path, metavar="FILE", help="a tagtraum genre file, *.cls")
    command_line.add_argument("--summary", type=Path, metavar="FILE", help="msd_summary_file.h5, for artists")
    command_line.add_argument("--training", type=Path, metavar="FILE", help="MusicNN's train_gt_msd.tsv")
    return command_line.parse_args()


def main() -> None:
    """Run the command line."""
    arguments = _arguments()
    if arguments.top < 1:
        raise UserError(f"--top {arguments.top}: at least one tag is counted")
    tagging = TagLabels(source=str(arguments.tags), top=arguments.top) if arguments.tags else None
    genre = GenreLabels(source=str(arguments.genres)) if arguments.genres else None
    labels = Labels(genre=genre, tagging=tagging)
    for line in report(read_tracks(arguments.list), labels, arguments.summary, arguments.training, str(arguments.list)):
        print(line)


if __name__ == "__main__":
    run(main)
