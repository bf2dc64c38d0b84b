"""The workflow by running it: from rendered videos to the report, what reruns and what does not, growth, bad files."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.support.commands import ROOT
from tests.support.tracing import jobs_of
from tests.support.workflow import COUNT, SHARD, VIDEOS, keep_videos, leftovers, module, planned_rules, snakemake


def results(demo) -> Path:
    return Path(demo[1]["results"])


def test_everything_is_there(demo):
    out = results(demo)
    group = zarr.open_group(out / "features.zarr", mode="r")
    for name, width in (("musicnn", 1506), ("r2plus1d", 512)):
        features, valid = group[name][:], group[f"{name}_valid"][:]
        assert features.shape == (VIDEOS, COUNT, width) and features.dtype == np.float16
        assert valid.all() and np.isfinite(features).all()
        assert features.std(axis=(0, 1)).max() > 0  # videos differ
    start = group["start"][:]
    assert start.dtype == np.float32 and (np.diff(start, axis=1) > 0).all()
    header = "video_id,path,backbone,reason,message,attempts,decoder,version,kind"
    assert (out / "failures.csv").read_text().splitlines() == [header]
    for file in ("checkpoint.safetensors", "metrics.jsonl", "config.json", "embeddings.json"):
        assert (out / "heads" / "baseline" / file).stat().st_size > 0
    plots = {path.name for path in (out / "report" / "plots").iterdir()}
    assert {"overview.png", "overview.svg", "loss-baseline.png", "map-pca-audio-features.png"} <= plots
    assert any((out / "report" / "media").glob("*.mp4"))
    for file in ("baseline/diagnosis.json", "comparison.json"):
        assert (out / "eval" / file).stat().st_size > 0
    assert not leftovers(out)


def test_random_weights_are_said_everywhere(demo):
    out = results(demo)
    attributes = zarr.open_group(out / "features.zarr", mode="r")["r2plus1d"].attrs
    assert attributes["random_weights"] is True
    assert "RANDOM" in (out / "logs" / "extract" / "r2plus1d" / "00000.log").read_text()
    assert json.loads((out / "eval" / "baseline" / "retrieval.json").read_text())["random_weights"]["r2plus1d"]
    assert "r2plus1d ran on random weights" in (out / "report" / "index.html").read_text()


def test_the_report_stands_alone(demo):
    html = (results(demo) / "report" / "index.html").read_text()
    assert "<script" not in html
    assert not re.findall(r"src=[\"'](?!data:)", html) and not re.findall(r"href=[\"'](?!data:)[^\"'#]*:", html)
    assert len(re.findall(r'src="data:image/jpeg', html)) > 3
    with open(results(demo) / "report" / "tables" / "retrieval.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["level"] for r in rows} == {"segment", "video"}
    assert all(float(r["median_low"]) <= float(r["median"]) <= float(r["median_high"]) for r in rows)


def test_progress_reaches_the_user(demo):
    printed = (demo[0] / "printed.txt").read_text()
    shares = r"\d+% waiting for decoding, \d+% in the network, 0 failed"
    assert re.search(rf"r2plus1d 0000\d: 12/12 videos, [\d.]+ videos/s, \d+ s left, {shares}", printed)
    assert re.search(r"\d+% of the time waiting for decoding", printed)
    assert "Traceback" not in printed
    for part in ("probe", "musicnn", "r2plus1d"):
        lines = (results(demo) / "logs" / "progress" / part / "00000.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert (last["done"], last["total"], last["failed"]) == (SHARD, SHARD, 0) and last["rate"] > 0


def test_a_second_run_has_nothing_to_do(demo):
    folder, config = demo
    assert "Nothing to be done" in snakemake(folder, config, "-n")


def test_no_rule_depends_on_the_code(demo):
    """Features are kept until their cache key changes, whatever is edited."""
    jobs = jobs_of(*demo)
    assert len(jobs) > 20 and not [path for job in jobs for path in job.inputs if path.is_relative_to(ROOT)]


def test_a_changed_batch_size_is_no_reason_to_look_again(demo):
    folder, config = demo
    backbones = {name: b | {"batch": 3, "threads": 2} for name, b in config["backbones"].items()}
    assert "Nothing to be done" in snakemake(folder, config | {"backbones": backbones}, "-n")


def test_a_changed_experiment_redoes_the_heads_only(demo):
    folder, config = demo
    heads = {"experiments": {"baseline": {"max_epochs": 3, "batch": 16}}}
    rules = planned_rules(snakemake(folder, config | {"heads": heads}, "-n"))
    measured = {"retrieval", "compare", "neighbours", "probe_experiment", "diagnose"}
    assert rules == measured | {"train_heads", "embed", "write_report", "all"}


@pytest.mark.parametrize("galleries", [{"gallery": 5}, {"galleries": [5, 7]}])
def test_other_galleries_rank_again_only(demo, galleries):
    """Nothing is extracted, trained, probed or embedded again."""
    folder, config = demo
    rules = planned_rules(snakemake(folder, config | {"eval": config["eval"] | galleries}, "-n"))
    assert rules == {"retrieval", "compare", "diagnose", "write_report", "all"}


def test_a_tag_file_redoes_what_reads_its_labels(demo, tmp_path):
    folder, config = demo
    written = {
        task: json.loads((results(demo) / "labels" / f"{task}.json").read_text()) for task in ("genre", "tagging")
    }
    assert all(record["labelled"] == VIDEOS and record["classes"] for record in written.values())
    for experiment in ("features", "baseline"):
        assert json.loads((results(demo) / "eval" / experiment / "tagging.json").read_text())["task"] == "tagging"
    (tmp_path / "lastfm_tags.db").touch()
    labels = {"tagging": {"source": str(tmp_path / "lastfm_tags.db")}}
    printed = snakemake(folder, config | {"labels": labels}, "-n")
    probing = {"find_labels", "probe_features", "probe_experiment", "diagnose"}
    # Neighbours are compared by the file's tags, too; they were compared by the manifest's.
    neighbours = {"neighbours", "neighbours_of_features"}
    assert planned_rules(printed) == probing | neighbours | {"write_report", "all"}
    assert "for 'tagging'" in printed and "for 'genre'" not in printed
    gone = {"tagging": {"source": str(tmp_path / "nowhere.db")}}
    printed = snakemake(folder, config | {"labels": gone}, "-n", check=False)
    assert "labels.tagging.source" in printed and "nowhere.db does not exist" in printed


def extracting(printed: str) -> int:
    found = re.search(r"^extract_shard +(\d+)$", printed, re.M)
    return int(found[1]) if found else 0


def test_changed_segments_and_weights_look_again_and_nothing_is_lost(copied):
    folder, config = copied
    videos, shards = SHARD + 2, 2
    keep_videos(folder, videos)
    snakemake(folder, config, "extract")
    store = folder / "results" / "features.zarr"
    before = zarr.open_group(store, mode="r")["musicnn"][:]
    assert len(before) == videos

    other = config | {"segments": {"count": COUNT, "seconds": 3.1, "window": 3.2}}
    assert snakemake(folder, other, "extract").count("videos, 0 of them done already") == shards
    changed = zarr.open_group(store, mode="r")["musicnn"][:]
    assert np.isfinite(changed).all() and not (changed == before).all(axis=(1, 2)).any()

    # The old settings again: the arrays come back, and the jobs find everything done.
    printed = snakemake(folder, config, "extract")
    assert "12 videos, 12 of them done already" in printed and " 2 videos, 2 of them done already" in printed
    np.testing.assert_array_equal(zarr.open_group(store, mode="r")["musicnn"][:], before)

    from safetensors.numpy import load_file, save_file

    tensors = load_file(config["backbones"]["musicnn"]["weights"])
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] + np.float32(0.01)}, folder / "other.safetensors")
    weights = config | {"backbones": {"musicnn": {"weights": str(folder / "other.safetensors")}}}
    snakemake(folder, weights, str(folder / "results" / "plan.json"))
    assert extracting(snakemake(folder, weights, "-n", "extract")) == shards


def test_segments_at_keyframes_are_another_cache(copied):
    folder, config = copied
    keep_videos(folder, 3)
    stored = {}
    for start in ("random", "keyframe"):
        segments = config["segments"] | ({} if start == "random" else {"start": start})
        snakemake(folder, config | {"segments": segments}, "extract")
        group = zarr.open_group(folder / "results" / "features.zarr", mode="r")
        stored[start] = group["start"][:], group["musicnn"][:]
    starts, features = zip(*stored.values(), strict=True)
    assert (starts[1][:, 0] == 0).all(), "every video's first frame is a keyframe"
    # The same seconds have the same features; others have others.
    assert ((starts[0] == starts[1]) == (features[0] == features[1]).all(axis=2)).all()
    assert snakemake(folder, config, "extract").count("3 videos, 3 of them done already") >= 1


def table_of(folder: Path, rows: list[dict[str, str]]) -> None:
    with open(folder / "media" / "videos.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_ten_more_videos_touch_only_the_last_shards(copied):
    folder, config = copied
    with open(folder / "media" / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table_of(folder, rows[:20])
    snakemake(folder, config, "extract")
    store = folder / "results" / "features.zarr"
    before = zarr.open_group(store, mode="r")["musicnn"][:]
    first = next(p for p in (store / "musicnn" / "c" / "0").rglob("*") if p.is_file())
    stamp = first.stat().st_mtime_ns
    manifest = (folder / "results" / "manifest.json").read_text()

    # Started elsewhere Snakemake does not know what it ran with. A backbone that comes at the same time is no reason to
    # forget the videos.
    shutil.rmtree(folder / ".snakemake")
    config["backbones"]["more"] = {"kind": "musicnn", "weights": "random"}
    table_of(folder, rows[20:] + rows[:20])  # the new ones first: the order of the table does not matter
    printed = snakemake(folder, config, "extract")
    after = zarr.open_group(store, mode="r")["musicnn"][:]
    assert manifest != (folder / "results" / "manifest.json").read_text()
    assert first.stat().st_mtime_ns == stamp
    assert after.shape[0] == 30 and np.isfinite(after).all()
    np.testing.assert_array_equal(after[:20], before)
    assert "12 videos, 8 of them done already" in printed  # shard 1 was half full
    assert printed.count("musicnn extracts features of shard") == 2
    assert np.isfinite(zarr.open_group(store, mode="r")["more"][:]).all()


def test_bad_files_are_data(copied):
    folder, config = copied
    media = folder / "media"
    with open(media / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:5]
    (media / "garbage.mp4").write_bytes(b"not a video at all" * 100)
    (media / "empty.mp4").touch()
    whole = (media / rows[0]["path"]).read_bytes()
    (media / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (media / "-n 'quoted\" $(touch hacked).mp4").write_bytes((media / rows[1]["path"]).read_bytes())
    wrong = ["nowhere.mp4", "garbage.mp4", "empty.mp4", "cut.mp4", "-n 'quoted\" $(touch hacked).mp4"]
    table_of(
        folder, rows + [dict.fromkeys(rows[0], "") | {"video_id": f"w{i}", "path": p} for i, p in enumerate(wrong)]
    )
    printed = snakemake(folder, config, "extract")
    with open(folder / "results" / "failures.csv", newline="") as file:
        failures = {r["video_id"]: r for r in csv.DictReader(file)}
    valid = zarr.open_group(folder / "results" / "features.zarr", mode="r")["musicnn_valid"][:]
    assert {v: f["reason"] for v, f in failures.items()}["w0"] == "missing"
    assert set(failures) == {"w0", "w1", "w2", "w3"} and all(f["message"] for f in failures.values())
    assert valid.tolist() == [True] * 5 + [False] * 4 + [True]
    assert "Traceback" not in printed and not list(folder.rglob("hacked"))


def test_too_many_failures_stop_the_run_and_keep_the_work(copied):
    folder, config = copied
    media = folder / "media"
    with open(media / "videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:12]
    away = media.with_name("away")
    media.rename(away)  # as when a file system is not mounted
    media.mkdir()
    table_of(folder, rows)
    printed = snakemake(folder, config, "extract", check=False)
    assert "12 of the 12 videos of shard 0 failed for probe (missing 12)" in printed
    assert "decoding.failure_ratio" in printed and "Traceback (most" not in printed
    for path in away.iterdir():
        if path.name != "videos.csv":
            path.rename(media / path.name)
    snakemake(folder, config, "extract")
    assert zarr.open_group(folder / "results" / "features.zarr", mode="r")["musicnn_valid"][:].all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pipeline.extract", "--backbone", "clap", "--shard", "0"], "--backbone clap: the configuration has"),
        (["pipeline.extract", "--backbone", "musicnn", "--shard", "99"], "there is no shard 99"),
        (["heads.train", "--experiment", "nope"], "nope"),
    ],
)
def test_mistakes_by_hand_are_explained(demo, arguments, words):
    done = module(demo[1], *arguments)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def without_weights(folder):
    """Return a configuration of rendered videos and of a network whose weights do not exist."""
    return {
        "results": str(folder / "results"),
        "render": {"videos": 1, "seconds": [4.0, 5.0]},
        "backbones": {"r2plus1d": {"weights": str(folder / "none.pth")}},
        "heads": {"audio": "r2plus1d"},
    }


def test_without_weights_no_work_is_done(tmp_path):
    printed = snakemake(tmp_path, without_weights(tmp_path), "--keep-going", check=False)
    assert "there is no file" in printed and "none.pth" in printed and "Traceback (most" not in printed
    assert not (tmp_path / "results" / "rendered").exists()


def test_the_manifest_alone_needs_no_weights(tmp_path):
    snakemake(tmp_path, without_weights(tmp_path), "manifest")
    assert (tmp_path / "results" / "manifest.parquet").exists()
