"""Near-duplicates by the workflow: rendered videos and real copies of them, from the files to the groups."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from bench.copies import KINDS, decoded, write_copy
from pipeline.duplicates.__main__ import duplicates
from tests.support.workflow import VIDEOS, planned_rules, snakemake

ORIGINALS = ("song00000", "song00002", "song00007")
MADE = ("same_bytes", "encoded", "container", "smaller", "cropped", "quieter", "pitched_up", "pitched_down")
"""Kinds that leave videos of 7 to 9 s long enough; bench/duplicates.py measures all."""
SEEN = ("same_bytes", "encoded", "quieter", "pitched_up", "pitched_down")
"""Those of them whose pictures are at most encoded again."""


@pytest.fixture(scope="module")
def copies(demo, tmp_path_factory):
    """The demo's videos with copies of three of them, and the duplicates found: (folder, configuration)."""
    folder = tmp_path_factory.mktemp("duplicates")
    results = demo[0] / "results"
    shutil.copytree(results / "rendered", folder / "media")
    media = {path.stem: path for path in (folder / "media").glob("song*")}
    with open(folder / "media" / "videos.csv", newline="") as file:
        rows = [{"video_id": row["video_id"], "path": row["path"]} for row in csv.DictReader(file)]
    for name in ORIGINALS:
        for kind in MADE:
            path = write_copy(media[name], media["song00001"], kind, folder / "media" / f"{kind}-{name}")
            rows.append({"video_id": f"{kind}-{name}", "path": path.name})
    with open(folder / "media" / "videos.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ("video_id", "path"))
        writer.writeheader()
        writer.writerows(rows)
    backbones = {
        name: settings | {"weights": str(results / "weights" / f"{name}.safetensors")}
        for name, settings in demo[1]["backbones"].items()
    }
    config = {key: value for key, value in demo[1].items() if key not in ("render", "heads")} | {
        "results": str(folder / "results"),
        "videos": str(folder / "media" / "videos.csv"),
        "backbones": backbones,
        "duplicates": {"on": "audio"},
    }
    snakemake(folder, config, "duplicates")
    return folder, config


def groups(folder: Path) -> dict[str, str]:
    """{video id: number of its group}."""
    with open(folder / "results" / "duplicates" / "duplicates.csv", newline="") as file:
        return {line["video_id"]: line["group"] for line in csv.DictReader(file)}


def test_copies_are_found_by_their_audio(copies):
    folder, _ = copies
    of = groups(folder)
    for name in ORIGINALS:
        assert {of.get(f"{kind}-{name}") for kind in MADE} == {of[name]}, name
    assert len({of[name] for name in ORIGINALS}) == 3
    written = json.loads((folder / "results" / "duplicates" / "duplicates.json").read_text())
    assert written["random_weights"] == {"musicnn": False} and written["compared"] == VIDEOS + 3 * len(MADE)
    # Copies have no artist here, so splits know nothing of them.
    assert written["across_splits"]["groups"] >= 1


def test_copies_are_found_by_their_pictures(copies):
    folder, _ = copies
    results = folder / "copy"
    shutil.copytree(folder / "results", results)
    duplicates(results, {"video": "r2plus1d"}, 0.65, 2)
    with open(results / "duplicates" / "duplicates.csv", newline="") as file:
        of = {line["video_id"]: line["group"] for line in csv.DictReader(file)}
    for name in ORIGINALS:
        assert {of.get(f"{kind}-{name}") for kind in SEEN} == {of[name]}, name


def test_settings_make_it_again_and_nothing_else(copies):
    folder, config = copies
    assert "Nothing to be done" in snakemake(folder, config, "duplicates", "--dry-run")
    changed = config | {"duplicates": {}}
    assert planned_rules(snakemake(folder, changed, "duplicates", "--dry-run")) == {"duplicates", "find_duplicates"}


def test_the_report_shows_them_where_they_are_and_asks_for_none(demo, tmp_path):
    shutil.copytree(demo[0] / "results", tmp_path / "results")
    config = demo[1] | {"results": str(tmp_path / "results"), "duplicates": {"on": "audio"}}
    page = tmp_path / "results" / "report" / "index.html"

    def planned(changed: dict, *targets: str) -> set[str]:
        return planned_rules(snakemake(tmp_path, changed, *targets, "--dry-run")) - set(targets)

    assert "Not looked for." in page.read_text()
    snakemake(tmp_path, config, "duplicates")
    assert planned(config, "report") == {"write_report"}
    snakemake(tmp_path, config, "report")
    assert "videos compared by audio" in page.read_text()
    assert planned(config, "report") == set()
    snakemake(tmp_path, config, "evaluate_duplicates")
    assert planned(config, "report") == {"write_report"}
    # Duplicates of other settings are not looked for again because a report is written.
    changed = config | {"duplicates": {"on": "audio", "threshold": 0.9}}
    assert planned(changed, "report") == {"write_report"}
    assert planned(changed, "duplicates") == {"find_duplicates"}


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_what_they_say(demo, tmp_path, kind):
    media = demo[0] / "results" / "rendered"
    source, other = (decoded(media / f"song0000{i}.mp4") for i in (0, 1))
    path = write_copy(media / "song00000.mp4", media / "song00001.mp4", kind, tmp_path / "copy")
    copy = decoded(path)
    length = len(source.frames) / source.fps
    expected = {"trimmed": length - 5, "half": length / 2}.get(kind, length)
    assert len(copy.frames) / copy.fps == pytest.approx(expected, abs=0.1)
    assert copy.samples.shape[1] / copy.rate == pytest.approx(expected, abs=0.15)
    assert path.suffix == (".webm" if kind == "container" else ".mp4")
    height, width = source.frames.shape[1:]
    assert copy.frames.shape[1:] == ((height // 2, width // 2) if kind == "smaller" else (height, width))
    brightness = [int(frames[len(frames) // 2].mean()) for frames in (source.frames, copy.frames, other.frames)]
    if kind in ("encoded", "container", "mirrored", "quieter", "pitched_up", "pitched_down"):
        assert abs(brightness[1] - brightness[0]) < 6
    middle = source.frames[len(source.frames) // 2].astype(int), copy.frames[len(copy.frames) // 2].astype(int)
    if kind == "mirrored":
        brightest = height * 2 // 3
        assert abs(middle[0][:brightest, ::-1] - middle[1][:brightest]).mean() < 8
    if kind == "quieter":
        assert abs(copy.samples).mean() == pytest.approx(abs(source.samples).mean() / 2, rel=0.1)
