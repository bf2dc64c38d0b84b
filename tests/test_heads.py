"""Batches, training with exact resume, checkpoints and embeddings, on a simulated cache."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from simulate import simulate

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from heads import train as training
from heads.checkpoint import load_checkpoint, read_tensors
from heads.embed import embed
from heads.features import load_features, training_batches, validation_batches
from heads.train import train

SMALL = {"hidden": [32], "embedding": 16, "batch": 64, "patience": 3, "max_epochs": 7}
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_cache(folder: Path, videos: int = 200, **changes: Any) -> Config:
    experiment = {**SMALL, **changes.pop("experiment", {})}
    return simulate(folder, videos=videos, dims=(24, 16), heads={"experiments": {"small": experiment}}, **changes)


def outputs(config: Config) -> dict[str, bytes]:
    """The bytes of everything that a training leaves behind."""
    folder = Paths(Path(config.results)).heads("small")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def metrics(config: Config) -> list[dict[str, Any]]:
    lines = (Paths(Path(config.results)).heads("small") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# The batches


@given(
    videos=st.integers(1, 300), segments=st.integers(1, 6), batch=st.integers(2, 90), seed=st.integers(-5, 2**70),
    epoch=st.integers(1, 1000),
)  # fmt: skip
def test_training_batches(videos: int, segments: int, batch: int, seed: int, epoch: int) -> None:
    batches = training_batches(np.ones((videos, segments), bool), batch, seed, epoch)
    used = np.concatenate([video for video, _ in batches])
    assert len(np.unique(used)) == len(used), "a video came twice"
    rest = videos % batch
    dropped = rest if videos > batch and rest < max(2, batch / 2) else 0
    assert len(used) == videos - dropped
    assert all(len(video) == len(segment) <= batch for video, segment in batches)
    assert all(((0 <= segment) & (segment < segments)).all() for _, segment in batches)
    again = training_batches(np.ones((videos, segments), bool), batch, seed, epoch)
    assert all((a == b).all() for one, two in zip(batches, again, strict=True) for a, b in zip(one, two, strict=True))


def test_every_epoch_draws_anew() -> None:
    draws = {
        training_batches(np.ones((50, 6), bool), 50, seed, epoch)[0][part].tobytes()
        for seed in (0, 1) for epoch in (1, 2, 3) for part in (0, 1)
    }  # fmt: skip
    assert len(draws) == 12
    segments = np.concatenate(
        [training_batches(np.ones((500, 6), bool), 500, 0, epoch)[0][1] for epoch in range(1, 11)]
    )
    assert np.bincount(segments).min() > 700  # of 833 expected


@given(st.integers(1, 100), st.integers(1, 6), st.integers(2, 60))
def test_validation_uses_every_segment_once(videos: int, segments: int, batch: int) -> None:
    batches = validation_batches(np.ones((videos, segments), bool), batch, 0)
    pairs = [(int(v), int(s)) for video, segment in batches for v, s in zip(video, segment, strict=True)]
    assert sorted(pairs) == [(v, s) for v in range(videos) for s in range(segments)]
    sizes = [len(video) for video, _ in batches]
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    assert all(len(np.unique(video)) == len(video) for video, _ in batches)


def test_features_are_those_of_readable_videos_of_the_split(tmp_path: Path) -> None:
    config = small_cache(tmp_path, unreadable=range(0, 200, 3))
    features = load_features(config)
    together = np.concatenate(list(features.rows.values()))
    assert sorted(together) == [row for row in range(200) if row % 3]
    assert sum(features.total.values()) == 200
    assert features.random_weights == {"musicnn": False, "r2plus1d": True}
    rows = features.rows["train"]
    audio, video = features.pairs("train", (np.array([4, 0]), np.array([2, 1])))
    np.testing.assert_array_equal(audio, features.audio[[rows[4], rows[0]], [2, 1]])
    assert np.isfinite(video).all() and video.shape == (2, 16)


# Training


def test_training_writes_what_it_did(tmp_path: Path) -> None:
    config = small_cache(tmp_path, experiment={"max_epochs": 30})
    train(config, "small")
    lines = metrics(config)
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    for line in lines:
        assert line["learning_rate"] == pytest.approx(0.01 * 0.95 ** (line["epoch"] - 1))
        for split in ("train", "validation"):
            assert line[f"{split}_lowest"] < line[f"{split}_loss"] < line[f"{split}_chance"] * 1.1
    losses = [line["validation_loss"] for line in lines]
    best = 1 + int(np.argmin(losses))
    assert len(lines) == min(best + SMALL["patience"], 30)
    heads, about = load_checkpoint(Paths(tmp_path).heads("small") / "checkpoint.safetensors")
    assert (about.epoch, about.validation_loss) == (best, losses[best - 1])
    assert about.keys == {"musicnn": "a" * 64, "r2plus1d": "b" * 64}
    assert about.random_weights["r2plus1d"] and not about.random_weights["musicnn"]
    assert json.loads(outputs(config)["config.json"])["embedding"] == 16
    # The weights are the best epoch's: they give its validation loss again.
    again = training.Training(load_features(config), config.heads.experiments["small"], "cpu")
    again.learned.load_state_dict(heads.state_dict())
    again.heads.eval()
    batches = validation_batches(again.features.good[again.features.rows["validation"]], 64, 0)
    with torch.no_grad():
        found = again._pass("validation", batches, lambda loss: None)
    assert found["validation_loss"] == pytest.approx(losses[best - 1], rel=1e-6)
    assert not Paths(tmp_path).training("small").parent.exists()


def test_seeds_decide_everything(tmp_path: Path) -> None:
    first, same, other = (
        small_cache(tmp_path / name, experiment={"seed": seed}) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for config in (first, same, other):
        torch.rand(3)  # whatever was drawn before
        train(config, "small")
    assert outputs(first) == outputs(same)
    assert outputs(first)["metrics.jsonl"] != outputs(other)["metrics.jsonl"]


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4])
def test_resumed_training_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    undisturbed, config = small_cache(tmp_path / "a"), small_cache(tmp_path / "b")
    train(undisturbed, "small")
    whole, epochs = training.Training.epoch, []

    def dying(self: training.Training, number: int) -> dict[str, Any]:
        if number > after:
            raise Killed
        return whole(self, number)

    def counting(self: training.Training, number: int) -> dict[str, Any]:
        epochs.append(number)
        return whole(self, number)

    monkeypatch.setattr(training.Training, "epoch", dying)
    with pytest.raises(Killed):
        train(config, "small")
    assert len(metrics(config)) == after, "metrics.jsonl is there as it goes"
    shutil.rmtree(Paths(tmp_path / "b").heads("small"))  # as Snakemake deletes a failed rule's outputs
    monkeypatch.setattr(training.Training, "epoch", counting)
    train(config, "small")
    assert epochs[0] == after + 1
    assert outputs(config) == outputs(undisturbed)


def test_sigkill_and_again(tmp_path: Path) -> None:
    changes = {"max_epochs": 100, "patience": 100}
    config = small_cache(tmp_path / "a", experiment=changes)
    undisturbed = small_cache(tmp_path / "b", experiment=changes)
    file = str(Paths(tmp_path / "a").config)
    command = [sys.executable, "-m", "heads.train", "--config", file, "--experiment", "small"]
    state = Paths(tmp_path / "a").training("small")
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    assert not (Paths(tmp_path / "a").heads("small") / "checkpoint.safetensors").exists()
    subprocess.run(command, cwd=REPOSITORY, check=True, stderr=subprocess.DEVNULL)
    train(undisturbed, "small")
    assert outputs(config) == outputs(undisturbed)


@pytest.mark.parametrize(
    "change", [{"experiment": {"temperature": 0.5}}, {"keys": ("c" * 64, "b" * 64)}, {"videos": 210}, {"damage": True}]
)
def test_progress_of_another_training_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    config = small_cache(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(config, "small")
    state = Paths(tmp_path / "a").training("small")
    if change.pop("damage", False):
        state.write_bytes(state.read_bytes()[:1000])
    kept = tmp_path / "state.safetensors"
    shutil.move(state, kept)
    shutil.rmtree(tmp_path / "a")
    changed, fresh = small_cache(tmp_path / "a", **change), small_cache(tmp_path / "b", **change)
    state.parent.mkdir(parents=True)
    shutil.move(kept, state)
    train(changed, "small")
    train(fresh, "small")
    assert outputs(changed) == outputs(fresh)


def test_too_few_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train split has 1.. videos, of which 0 have .*failures.csv"):
        train(small_cache(tmp_path, unreadable=range(200)), "small")


def test_a_loss_that_is_no_number_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"learning_rate \(1e\+30\)"):
        train(small_cache(tmp_path, experiment={"learning_rate": 1e30, "output": "linear"}), "small")


def test_unknown_experiment_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such experiment; there are \['small'\]"):
        train(small_cache(tmp_path), "nosuch")


def test_more_videos_than_the_cache_has(tmp_path: Path) -> None:
    config = small_cache(tmp_path / "a")
    small_cache(tmp_path / "b", videos=230)
    shutil.copy(tmp_path / "b" / "manifest.parquet", tmp_path / "a" / "manifest.parquet")
    with pytest.raises(UserError, match="has 230 videos, .* only 200"):
        train(config, "small")


# Embeddings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_cache(tmp_path_factory.mktemp("trained"), videos=300, unreadable=[0, 17, 299])
    train(config, "small")
    return config


def test_embeddings_are_the_heads_of_the_features(trained: Config) -> None:
    record = embed(trained, "small")
    folder = Paths(Path(trained.results)).heads("small")
    group = zarr.open_group(folder / "embeddings.zarr", mode="r")
    features, (heads, _) = load_features(trained), load_checkpoint(folder / "checkpoint.safetensors")
    for side, source, head in (("audio", features.audio, heads.audio), ("video", features.video, heads.video)):
        array = np.asarray(group[side][:])
        assert array.shape == (300, 3, 16) and array.dtype == np.float16
        missing = np.isnan(array).any(axis=(1, 2))
        assert np.flatnonzero(missing).tolist() == ([] if side == "audio" else [0, 17, 299])
        assert np.isnan(array[missing]).all()
        alone = head(torch.from_numpy(source[5, 1:2])).detach().numpy()[0]
        np.testing.assert_allclose(array[5, 1], alone, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(array[~missing].astype(np.float32), axis=-1), 1, atol=2e-3)
    assert record["valid"] == {"audio": 300, "video": 297}
    assert json.loads((folder / "embeddings.json").read_text()) == record
    assert embed(trained, "small") == record
    assert not list(folder.glob("*wip*"))


def test_embed_refuses_heads_of_other_features(tmp_path: Path) -> None:
    config = small_cache(tmp_path)
    train(config, "small")
    small_cache(tmp_path, keys=("c" * 64, "b" * 64))
    with pytest.raises(UserError, match="cache keys musicnn aaaaaaaa, .* the cache has musicnn cccccccc"):
        embed(config, "small")
    with pytest.raises(UserError, match="does not exist"):
        embed(small_cache(tmp_path / "other"), "small")


def test_a_damaged_checkpoint_is_explained(trained: Config, tmp_path: Path) -> None:
    good = Paths(Path(trained.results)).heads("small") / "checkpoint.safetensors"
    bad = tmp_path / "checkpoint.safetensors"
    bad.write_bytes(good.read_bytes()[:-7])
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(bad)
    assert set(read_tensors(good)[0]) == set(load_checkpoint(good)[0].state_dict())
