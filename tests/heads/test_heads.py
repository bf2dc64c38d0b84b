"""Projection heads, training with exact resume, seeds, checkpoints and embeddings, on a simulated cache."""

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

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from heads import checkpoint
from heads import dataset as memory
from heads import fit as training
from heads.checkpoint import load_checkpoint, read_tensors
from heads.embed import embed, embeddings_record, load_embeddings
from heads.features import load_features
from heads.runs import Run, runs
from heads.train import train
from tests.support.commands import ROOT, execute
from tests.support.simulate import simulate
from tests.support.trainings import Killed, killed, metrics, outputs

SMALL = {"hidden": [32], "embedding": 16, "batch": 64, "patience": 3, "max_epochs": 7}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_cache(folder: Path, videos: int = 200, **changes: Any) -> Config:
    experiment = {**SMALL, **changes.pop("experiment", {})}
    heads = {"experiments": {"small": experiment}, **changes.pop("heads", {})}
    return simulate(folder, videos=videos, dims=(24, 16), heads=heads, **changes)


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
    data = memory.load(load_features(config), ("train", "validation"), "cpu")
    again = training.Training(data, config.heads.experiments["small"], 0)
    again.learned.load_state_dict(heads.state_dict())
    again.heads.eval()
    with torch.no_grad():
        losses_again = again._pass("validation", "all", 0, lambda loss: None)
    assert losses_again["validation_loss"] == pytest.approx(losses[best - 1], rel=1e-6)
    assert not Paths(tmp_path).training("small", 0).parent.parent.exists()


def test_seeds_decide_everything(tmp_path: Path) -> None:
    first, same, other = (
        small_cache(tmp_path / name, heads={"seeds": seeds}) for name, seeds in (("a", [1, 2]), ("b", [1]), ("c", [2]))
    )
    for config in (first, same, other):
        torch.rand(3)  # whatever was drawn before
        train(config, "small")
    files = outputs(first)
    names = ("checkpoint.safetensors", "config.json", "metrics.jsonl")
    assert sorted(files) == sorted([*names, *(f"seeds/2/{name}" for name in names)])
    assert {name: files[name] for name in names} == outputs(same)
    assert {name: files[f"seeds/2/{name}"] for name in names} == outputs(other)
    assert files["metrics.jsonl"] != files["seeds/2/metrics.jsonl"]
    assert [r["seed"] for r in embed(first, "small")] == [1, 2]
    assert embed(first, "small")[1]["digest"] == embed(other, "small")[0]["digest"]
    for run in runs(first, "small"):
        assert (
            load_embeddings(run, np.arange(5), {"musicnn": "a" * 64, "r2plus1d": "b" * 64}).record["seed"] == run.seed
        )


def test_a_sweep_reads_the_cache_once_and_keeps_finished_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = {name: {**SMALL, "temperature": t} for name, t in (("small", 1.0), ("cold", 0.1))}
    settings: dict[str, Any] = {"experiments": experiments, "seeds": [0, 3]}
    undisturbed = simulate(tmp_path / "a", videos=200, dims=(24, 16), heads=settings)
    config = simulate(tmp_path / "b", videos=200, dims=(24, 16), heads=settings)
    train(undisturbed, "small", "cold")
    with killed(lambda run, number: (run.experiment.temperature, run.seed, number) == (0.1, 3, 2)):
        train(config, "small", "cold")
    epochs: list[tuple[float, int, int]] = []
    loads, whole = [], training.Training.epoch
    load = memory.load
    monkeypatch.setattr(memory, "load", lambda _, names, device: loads.append(names) or load(_, names, device))
    monkeypatch.setattr(
        training.Training,
        "epoch",
        lambda self, n: epochs.append((self.experiment.temperature, self.seed, n)) or whole(self, n),
    )
    train(config, "small", "cold")
    assert loads == [("train", "validation")]
    assert {(t, seed) for t, seed, _ in epochs} == {(0.1, 3)} and epochs[0][2] == 2
    assert outputs(config) == outputs(undisturbed)
    assert not (tmp_path / "b" / "work" / "heads" / "small").exists()


@pytest.mark.parametrize("policy", ["one", "all", "mean"])
def test_streamed_training_can_be_killed_too(tmp_path: Path, policy: str) -> None:
    settings: dict[str, Any] = {
        "experiment": {"segment_policy": policy, "max_epochs": 4, "patience": 4},
        "shard_videos": 32,
        "heads": {"memory_gb": (memory.OVERHEAD + 40_000) / 1e9},
    }
    undisturbed, config = (small_cache(tmp_path / name, **settings) for name in "ab")
    train(undisturbed, "small")
    # It does not fit into memory.
    with killed(lambda run, number: run.data["train"].block is None and number > 2):
        train(config, "small")
    train(config, "small")
    assert outputs(config) == outputs(undisturbed)
    losses = [line["train_loss"] for line in metrics(config)]
    assert losses[-1] < losses[0]
    pairs = {line["train_pairs"] for line in metrics(config)}
    videos = len(load_features(config).splits["train"].rows)
    assert pairs == {videos * (3 if policy == "all" else 1)}


def test_the_state_is_not_written_more_often_than_it_need_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written after the first epoch and the last; a training killed between them starts again from the first."""
    undisturbed, config = small_cache(tmp_path / "a"), small_cache(tmp_path / "b")
    whole, write, epochs, written = training.Training.epoch, training.save_progress, [], []

    def counting(self: training.Training, number: int) -> dict[str, Any]:
        epochs.append(number)
        return whole(self, number)

    def writing(state: Path, progress: training.Progress) -> None:
        written.append(len(progress.metrics))
        write(state, progress)

    monkeypatch.setattr(training, "SAVE_SECONDS", 1000.0)
    monkeypatch.setattr(training, "save_progress", writing)
    train(undisturbed, "small")
    last = len(metrics(undisturbed))
    assert written == [1, last]
    monkeypatch.setattr(training.Training, "epoch", counting)
    with killed(lambda _, number: number == 4):
        train(config, "small")
    train(config, "small")
    assert epochs == [1, 2, 3, *range(2, last + 1)] and written == [1, last, 1, 2, last]
    assert outputs(config) == outputs(undisturbed)


@pytest.mark.parametrize("after", [1, 4])
def test_resumed_training_equals_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    undisturbed, config = small_cache(tmp_path / "a"), small_cache(tmp_path / "b")
    train(undisturbed, "small")
    whole, epochs = training.Training.epoch, []

    def counting(self: training.Training, number: int) -> dict[str, Any]:
        epochs.append(number)
        return whole(self, number)

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    with killed(lambda _, number: number > after):
        train(config, "small")
    assert len(metrics(config)) == after, "metrics.jsonl is there as it goes"
    shutil.rmtree(Paths(tmp_path / "b").heads("small"))  # as Snakemake deletes a failed rule's outputs
    monkeypatch.setattr(training.Training, "epoch", counting)
    train(config, "small")
    assert epochs[0] == after + 1
    assert outputs(config) == outputs(undisturbed)


@pytest.mark.workflow
def test_sigkill_and_again(tmp_path: Path) -> None:
    changes = {"max_epochs": 100, "patience": 100}
    config = small_cache(tmp_path / "a", experiment=changes)
    undisturbed = small_cache(tmp_path / "b", experiment=changes)
    file = str(Paths(tmp_path / "a").config)
    command = [sys.executable, "-m", "heads.train", "--config", file, "--experiment", "small"]
    state = Paths(tmp_path / "a").training("small", 0)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the training ended before it could be killed"
    assert not (Paths(tmp_path / "a").heads("small") / "checkpoint.safetensors").exists()
    execute(command, check=True, stderr=subprocess.DEVNULL)
    train(undisturbed, "small")
    assert outputs(config) == outputs(undisturbed)


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": {"temperature": 0.5}}, {"keys": ("c" * 64, "b" * 64)}, {"videos": 210}, {"damage": True},
        {"seed": 1},  # other features under the same keys, as after `pipeline.retry --videos`
        {"heads": {"matmul": "torch"}},
    ],
)  # fmt: skip
def test_progress_of_another_training_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    config = small_cache(tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(config, "small")
    state = Paths(tmp_path / "a").training("small", 0)
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
    (record,) = embed(trained, "small")
    folder = trained.paths.heads("small")
    group = zarr.open_group(folder / "embeddings.zarr", mode="r")
    features, (heads, _) = load_features(trained), load_checkpoint(folder / "checkpoint.safetensors")
    arrays = [np.asarray(array[:]) for array in features.arrays]
    for side, source, head in (("audio", arrays[0], heads.audio), ("video", arrays[1], heads.video)):
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
    assert embed(trained, "small") == [record]
    assert not list(folder.glob("*wip*"))


def test_new_heads_leave_no_embeddings_of_the_old_ones(tmp_path: Path) -> None:
    config = small_cache(tmp_path, heads={"seeds": [1, 2]})
    keys = {"musicnn": "a" * 64, "r2plus1d": "b" * 64}
    train(config, "small")
    embed(config, "small")
    first, second = runs(config, "small")
    assert embeddings_record(second, keys, 200)["seed"] == 2
    with pytest.raises(UserError, match=r"'small' with seed 2, not of 'small' with seed 7; run `snakemake embeddings"):
        embeddings_record(Run("small", 7, second.folder), keys)
    with pytest.raises(UserError, match=r"'small' with seed 1, not of 'other' with seed 1; run `snakemake embeddings"):
        embeddings_record(Run("other", 1, first.folder), keys)
    train(config, "small")
    for run in (first, second):
        with pytest.raises(UserError, match=r"embeddings\.json does not exist"):
            embeddings_record(run, keys)


def test_embed_refuses_heads_of_other_features(tmp_path: Path) -> None:
    config = small_cache(tmp_path)
    train(config, "small")
    small_cache(tmp_path, keys=("c" * 64, "b" * 64))
    with pytest.raises(UserError, match="cache keys musicnn aaaaaaaa, .* the cache has musicnn cccccccc"):
        embed(config, "small")
    with pytest.raises(UserError, match="does not exist"):
        embed(small_cache(tmp_path / "other"), "small")


def test_a_damaged_checkpoint_is_explained(trained: Config, tmp_path: Path) -> None:
    good = trained.paths.heads("small") / "checkpoint.safetensors"
    bad = tmp_path / "checkpoint.safetensors"
    bad.write_bytes(good.read_bytes()[:-7])
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(bad)
    assert set(read_tensors(good)[0]) == set(load_checkpoint(good)[0].state_dict())
