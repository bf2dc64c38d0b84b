"""The probes of a simulated cache: what is written, what is left out and said, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from config.cli import UserError
from config.model import Config, load
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.probe.__main__ import AGAINST, probe
from eval.probe.sets import load_task
from heads.embed import embed
from heads.train import train
from pipeline.backbones.musicnn_weights import MSD_SHA256
from tests.support.commands import execute
from tests.support.msd_files import track_id, write_lastfm
from tests.support.simulate import label_by_audio, simulate


def labelled(folder: Path, **settings: Any) -> Config:
    """A simulated run with an experiment, whose genre and tags can be seen in the sound's first features."""
    torch.set_num_threads(1)
    config = simulate(
        folder,
        videos=400,
        unreadable=[3],
        damaged=[(5, 1), (9, 0)],
        splits={"train": 0.5, "validation": 0.2, "test": 0.3},
        heads={"experiments": {"baseline": {"max_epochs": 3, "batch": 64}}, **settings.pop("heads", {})},
        probes={"hidden": [32, 16], "max_epochs": 20, "batch": 32},
        eval={"bootstrap": 200},
        **settings,
    )
    label_by_audio(config)
    return config


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = labelled(tmp_path_factory.mktemp("probed"))
    train(config, "baseline")
    embed(config, "baseline")
    for task in config.labels.tasks:
        probe(config, task)
        probe(config, task, "baseline")
    return config


def result(config: Config, experiment: str, task: str) -> dict[str, Any]:
    return json.loads((config.paths.eval(experiment) / f"{task}.json").read_text())


@pytest.mark.parametrize("task", ["genre", "tagging"])
def test_what_the_json_says(ready: Config, task: str) -> None:
    features, heads = result(ready, "features", task), result(ready, "baseline", task)
    for written, keys in (
        (features, ["audio", "video", "audio_video"]),
        (heads, ["cl_audio", "cl_video", "cl_aggregated"]),
    ):
        kinds = [(r["level"], r["representation"], r["probe"]) for r in written["results"]]
        assert sorted(kinds) == sorted(
            (level, key, kind) for level in ("segment", "video") for key in keys for kind in ("linear", "perceptron")
        )
        classes = [c for c in written["classes"] if c not in written["left_out"]]
        for r in written["results"]:
            assert [c["class"] for c in r["per_class"]] == classes
            for metric in r["metrics"].values():
                assert metric["low"] <= metric["value"] <= metric["high"] and len(metric["seeds"]) == 1
            mean = np.mean([c["auc"] for c in r["per_class"]])
            assert r["metrics"]["auc"]["value"] == pytest.approx(mean)
            assert (r["confusion"] is None) == (task == "tagging")
        assert written["published"][keys[0]]["auc"] > 0.6 and written["random_weights"]["r2plus1d"]
    best = {r["representation"]: r["metrics"]["auc"]["value"] for r in features["results"] if r["level"] == "video"}
    assert best["audio"] > 0.8
    pairs = {(c["a"], c["b"]) for c in heads["comparisons"]}
    assert pairs == {(a, b) for a in ("cl_audio", "cl_video", "cl_aggregated") for b in AGAINST[a]}
    for c in heads["comparisons"] + features["comparisons"]:
        assert c["low"] <= c["difference"] <= c["high"] and c["seeds_low"] is c["seeds_high"] is None
        assert c["differs"] == (c["low"] > 0 or c["high"] < 0)
    assert any(c["differs"] for c in heads["comparisons"])


def test_stored_scores_give_the_written_values(ready: Config) -> None:
    """scikit-learn on what is stored says what the JSON says; segments and videos are different items."""
    paths = ready.paths
    manifest = {line["row"]: line for line in read_manifest(paths.manifest).to_pylist()}
    written = result(ready, "features", "tagging")
    tensors = load_file(paths.eval("features") / "tagging.safetensors")
    evaluated = [c not in written["left_out"] for c in written["classes"]]
    counts = []
    for r in written["results"]:
        rows = tensors[f"{r['level']}/rows"]
        truth = np.array([[c in manifest[row]["tags"] for c in written["classes"]] for row in rows.tolist()])[
            :, evaluated
        ]
        (scores,) = tensors[f"{r['level']}/{r['representation']}/{r['probe']}/scores"]
        assert r["metrics"]["auc"]["value"] == pytest.approx(
            roc_auc_score(truth, scores[:, evaluated], average="macro")
        )
        counts.append(len(rows))
        assert {manifest[row]["split"] for row in rows.tolist()} == {"test"}
    damaged = sum(manifest[row]["split"] == "test" for row in (5, 9))
    assert set(counts) == {written["videos"]["test"], 3 * written["videos"]["test"] - damaged}


def test_classes_that_a_split_lacks_are_named_and_left_out(ready: Config) -> None:
    genre, tagging = result(ready, "features", "genre"), result(ready, "features", "tagging")
    assert genre["left_out"] == {"unheard": ["no positive in train", "no positive in validation"]}
    assert "unheard" not in genre["classes"]  # it cannot be learned, so its video is not judged either
    assert "t3" not in tagging["left_out"] and tagging["unvalidated"] == ["t3"]  # only its threshold is missing
    for r in tagging["results"]:
        lines = {line["class"]: line for line in r["per_class"]}
        assert lines["t3"]["f1"] is None and lines["t3"]["auc"] is not None
        f1s = [line["f1"] for name, line in lines.items() if name != "t3"]
        assert r["metrics"]["f1"]["value"] == pytest.approx(np.mean(f1s))
        assert [each is None for each in r["thresholds"][0]] == [name == "t3" for name in lines]


def test_other_features_or_labels_are_refused(ready: Config, tmp_path: Path) -> None:
    task, _ = load_task(ready, "genre", ready.sides())
    assert 0 not in task.rows and 3 not in task.rows and not task.good[task.rows == 5][0, 1]
    other = load(ready.model_dump() | {"eval": {"bootstrap": 300}})
    with pytest.raises(UserError, match="features/genre.json is missing or of other videos or settings"):
        probe(other, "genre", "baseline")
    with pytest.raises(UserError, match="heads.experiments.nosuch"):
        probe(ready, "genre", "nosuch")
    empty = simulate(tmp_path, videos=60)
    with pytest.raises(UserError, match="labels/genre.json does not exist"):
        probe(empty, "genre")


def test_too_few_labels_are_said_not_hidden(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=60)  # half of it `rock`, no other genre
    write_labels(config, "genre")
    written = probe(config, "genre")
    assert written["results"] == [] and "nothing was measured" in written["notes"][0]
    assert set(written["left_out"]) == {"rock"}


def probed_labels_of_msd(folder: Path, sha256: str, **labels: Any) -> dict[str, Any]:
    """Probe Last.fm's tags of 60 tracks on features whose weights have this digest; return what is written."""
    tracks = [track_id(i) for i in range(60)]
    pairs: list[tuple[object, object, object]] = [(i + 1, 1 + i % 2, 100.0) for i in range(60)]
    database = write_lastfm(folder / "lastfm_tags.db", tracks, ["rock", "pop"], pairs)
    (folder / "train_gt_msd.tsv").write_text("".join(f"{track}\t[0, 1]\n" for track in tracks[:20]))
    config = simulate(
        folder / "results",
        videos=60,
        labels={"genre": None, "tagging": {"source": str(database)}, **labels},
        probes={"hidden": [8], "max_epochs": 1},
        eval={"bootstrap": 100},
    )
    manifest = read_manifest(config.paths.manifest)
    column = manifest.schema.get_field_index("msd_track_id")
    write_manifest(config.paths, manifest.set_column(column, "msd_track_id", [tracks]))
    plan = json.loads(config.paths.plan.read_text())
    plan["backbones"]["musicnn"]["weights"] |= {"source": "a test", "sha256": sha256}
    config.paths.plan.write_text(json.dumps(plan))
    write_labels(config, "tagging")
    return probe(config, "tagging")


def test_weights_that_have_seen_the_probed_tracks_are_named(tmp_path: Path) -> None:
    said = "the weights of musicnn were trained on tracks of the Million Song Dataset with their tags"
    for name in ("plain", "counted", "other"):
        (tmp_path / name).mkdir()
    note, *_ = probed_labels_of_msd(tmp_path / "plain", MSD_SHA256)["notes"]
    assert note.startswith(said) and "labels.musicnn_training_list names the list" in note
    listed = {"musicnn_training_list": str(tmp_path / "counted" / "train_gt_msd.tsv")}
    note, *_ = probed_labels_of_msd(tmp_path / "counted", MSD_SHA256, **listed)["notes"]
    assert note.startswith(said) and "20 of 60 probed tracks are in their training list" in note
    config = load({"results": str(tmp_path / "counted" / "results"), "videos": "videos.csv"})
    record = json.loads(config.paths.labels_record("tagging").read_text())
    counts = record["musicnn_trained"]
    assert sum(counts.values()) == 20 and record["files"]["labels.musicnn_training_list"]["path"]
    assert all(f"{counts[split]} of " in note for split in ("train", "validation", "test"))
    assert not any("weights" in note for note in probed_labels_of_msd(tmp_path / "other", "0" * 64)["notes"])


def test_labels_of_the_manifest_need_no_such_note(ready: Config) -> None:
    assert not any("weights" in note for note in result(ready, "features", "tagging")["notes"])


@pytest.mark.workflow
def test_the_command_line(ready: Config) -> None:
    paths = ready.paths
    before = (paths.eval("features") / "genre.json").read_bytes()
    command = [sys.executable, "-m", "eval.probe", "--config", str(paths.config), "--task", "genre"]
    done = execute(command)
    assert done.returncode == 0 and "video MusicNN + R(2+1)D, linear: macro ROC-AUC" in done.stderr, done.stderr
    assert (paths.eval("features") / "genre.json").read_bytes() == before
