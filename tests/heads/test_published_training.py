"""What the paper's published code does in training, each option against a plain loop of PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from config.heads import Experiment
from heads import fit as fitting
from heads.checkpoint import About, load_progress, trained
from heads.dataset import Data, load
from heads.features import InMemory, PairedFeatures, Split
from heads.fit import Training, fit
from heads.loss import loss_of
from tests.support.trainings import killed

PUBLISHED: dict[str, Any] = {
    "hidden": [16], "embedding": 8, "dropout": 0.0, "batch": 20, "learning_rate": 0.01, "schedule": "constant",
    "normalisation": "batch_fixed", "segment_policy": "first", "shuffle": "once", "repeat_step": True,
    "patience": 9, "max_epochs": 4,
}  # fmt: skip


def features(damaged: tuple[int, int] | None = None) -> PairedFeatures:
    """90 videos of three segments, 12 and 10 numbers each, with something in common."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(90, 3, 4))
    arrays = [common @ rng.normal(size=(4, dim)) + rng.normal(size=(90, 3, dim)) for dim in (12, 10)]
    good = np.ones((90, 3), bool)
    if damaged:
        good[damaged] = False
    splits = {
        name: Split(np.arange(first, last), good[first:last], last - first)
        for name, first, last in (("train", 0, 60), ("validation", 60, 80), ("test", 80, 90))
    }
    keys = {"sound": "a", "picture": "b"}
    audio, video = (InMemory(array.astype(np.float16)) for array in arrays)
    return PairedFeatures((audio, video), splits, 90, keys, dict.fromkeys(keys, False))


def data(**settings: Any) -> dict[str, Data]:
    return load(features(**settings), ("train", "validation"), "cpu")


def copies(batches: Any) -> list[list[torch.Tensor]]:
    return [[x.clone() for x in batch] for batch in batches]


def plain_head(dim: int, weights: dict[str, torch.Tensor]) -> nn.Sequential:
    """Dense, batch norm whose scale and shift no optimiser gets, ReLU, dense, sigmoid."""
    head = nn.Sequential(nn.Linear(dim, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.Sigmoid())
    own = head.state_dict()
    own |= {f"0.{name}": weights[f"layers.0.{name}"] for name in ("weight", "bias")}
    own |= {f"3.{name}": weights[f"layers.3.{name}"] for name in ("weight", "bias")}
    head.load_state_dict(own)
    return head


def test_a_training_is_the_published_loop() -> None:
    """Constant rate, fixed batches of first segments, batch norm untrained, one more step before every later epoch."""
    training = Training(data(), Experiment(**PUBLISHED), 0)
    heads = [
        plain_head(dim, {k: v.clone() for k, v in head.state_dict().items()})
        for dim, head in ((12, training.heads.audio), (10, training.heads.video))
    ]
    batches = copies(training.data["train"].batches("first", 20, 0, 1))
    assert [len(batch[0]) for batch in batches] == [20, 20, 20]
    dense = [p for head in heads for layer in head if isinstance(layer, nn.Linear) for p in layer.parameters()]
    adam = torch.optim.Adam(dense, lr=0.01)
    for epoch in range(1, 5):
        if epoch > 1:
            adam.step()
        for head in heads:
            head.train()
        for batch in batches:
            audio, video = (functional.normalize(head(x)) for head, x in zip(heads, batch, strict=True))
            logits, own = audio @ video.T, torch.arange(20)
            adam.zero_grad()
            ((functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2).backward()
            adam.step()
        line = training.epoch(epoch)
        for plain, head in zip(heads, (training.heads.audio, training.heads.video), strict=True):
            plain.eval()
            for number in (0, 3):
                torch.testing.assert_close(head.layers[number].weight, plain[number].weight, atol=2e-5, rtol=1e-4)
            # Not the mean: a bias before batch norm has no gradient but rounding, which Adam makes large.
            torch.testing.assert_close(head.layers[1].running_var, plain[1].running_var, atol=2e-5, rtol=1e-4)
        with torch.no_grad():
            first = [torch.from_numpy(a.values[60:80, 0]).float() for a in training.data["train"].features.arrays]
            audio, video = (functional.normalize(head(x)) for head, x in zip(heads, first, strict=True))
            logits, own = audio @ video.T, torch.arange(20)
            loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        assert line["validation_loss"] == pytest.approx(float(loss), abs=1e-4) and line["validation_pairs"] == 20
        training.repeat_step()


def test_first_segments_are_the_first_that_could_be_read() -> None:
    held = data(damaged=(7, 0))["train"]
    (batch,) = copies(held.batches("first", 60, 0, 5))
    rows = {tuple(row) for row in batch[0].half().numpy().tolist()}
    values = held.features.arrays[0].read(np.arange(60))
    assert rows == {tuple(values[video, 1 if video == 7 else 0].tolist()) for video in range(60)}


def test_shuffled_once_every_epoch_has_the_first_ones_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[int]] = {}
    whole = Data.batches

    def batches(self: Data, policy: Any, batch: int, seed: int, epoch: int) -> Any:
        if self.split == "train":
            drawn[name].append(epoch)
        return whole(self, policy, batch, seed, epoch)

    monkeypatch.setattr(Data, "batches", batches)
    for name, shuffle in (("once", "once"), ("epoch", "epoch")):
        drawn[name] = []
        training = Training(data(), Experiment(**{**PUBLISHED, "shuffle": shuffle}), 0)
        for number in (1, 2, 3):
            training.epoch(number)
    assert drawn == {"once": [1, 1, 1], "epoch": [1, 2, 3]}


@pytest.mark.parametrize("repeat", [False, True])
def test_a_killed_training_takes_the_repeated_step_once(tmp_path: Path, repeat: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(fitting, "SAVE_SECONDS", 0.0)
    experiment = Experiment(**{**PUBLISHED, "repeat_step": repeat})
    f = features()
    description = About(experiment.model_dump(), 0, "sound", "picture", *f.dims, f.keys, f.random_weights, f.digest())
    undisturbed = fit(data(), experiment, description, None, lambda line: None)
    state = tmp_path / "state.safetensors"
    with killed(lambda _, number: number > 2):
        fit(data(), experiment, description, state, lambda line: None)
    kept = load_progress(state, description)
    assert kept is not None and len(kept.metrics) == 2
    resumed = fit(data(), experiment, description, state, lambda line: None)
    assert resumed.metrics == undisturbed.metrics
    for one, other in ((resumed.weights, undisturbed.weights), (resumed.best, undisturbed.best)):
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_repeated_step_is_no_part_of_the_epoch_that_is_kept() -> None:
    experiment = Experiment(**{**PUBLISHED, "max_epochs": 1})
    f = features()
    description = About(experiment.model_dump(), 0, "sound", "picture", *f.dims, f.keys, f.random_weights, f.digest())
    progress = fit(data(), experiment, description, None, lambda line: None)
    training = Training(data(), experiment, 0)
    training.epoch(1)
    assert all(torch.equal(progress.best[name], value) for name, value in training.learned.state_dict().items())
    heads = trained(experiment, f.dims, progress.best)
    assert torch.equal(heads.audio.layers[0].weight, training.heads.audio.layers[0].weight)
    assert not torch.equal(progress.weights["audio.layers.0.weight"], progress.best["audio.layers.0.weight"])


def test_a_single_head_learns_from_dot_products_with_the_features_as_they_are() -> None:
    settings = {**PUBLISHED, "embedding": 12, "audio": {"identity": True, "normalise": False}, "repeat_step": False}
    training = Training(data(), Experiment(**settings), 0)
    (audio, video), *_ = copies(training.data["train"].batches("first", 20, 0, 1))
    logits, own = audio @ training.heads.video(video).T, torch.arange(20)
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    loss = training.loss(*training.heads(audio, video))
    torch.testing.assert_close(loss, expected)
    line = training.epoch(1)
    # Lengths are free, so that the loss may come down to 0.
    assert line["train_lowest"] == line["validation_lowest"] == 0.0 < line["train_loss"]
    assert line["train_chance"] == pytest.approx(np.log(20))


@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
def test_the_lowest_loss_of_free_lengths_is_that_of_unbounded_logits(loss: Any) -> None:
    experiment = Experiment(loss=loss, embedding=30, audio={"identity": True, "normalise": False})
    module = loss_of(experiment)
    assert module.lowest(30) == pytest.approx(0.0, abs=1e-12)
    perfect = torch.eye(30)
    values = [module(scale * perfect, perfect).item() for scale in (1.0, 5.0, 40.0)]
    assert values[0] > values[1] > values[2] >= module.lowest(30) - 1e-9
    assert loss == "siglip" or values[2] < 1e-6


def test_defaults_stay_out_of_dumps() -> None:
    written = Experiment().model_dump()
    assert not {"shuffle", "repeat_step"} & set(written) and "normalise" not in written["audio"]
    changed = Experiment(**PUBLISHED, audio={"identity": True, "normalise": False}).model_dump()
    assert changed["shuffle"] == "once" and changed["repeat_step"] and changed["audio"]["normalise"] is False
    assert Experiment.model_validate(changed).model_dump() == changed
