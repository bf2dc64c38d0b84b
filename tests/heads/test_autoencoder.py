"""Heads initialised by autoencoders: they learn to reconstruct, each its own modality, the same way every time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from config.cli import UserError
from config.heads import Experiment
from heads.autoencoder import initialise
from heads.model import TwoHeads, build
from heads.standardise import Standardiser

SMALL: dict[str, Any] = {"hidden": [32], "embedding": 8, "dropout": 0.0, "initialisation": "autoencoder"}
AUDIO = np.random.default_rng(0).normal(size=(256, 3)) @ np.random.default_rng(1).normal(size=(3, 20)) * 50 + 7
VIDEO = np.random.default_rng(2).normal(size=(256, 3)) @ np.random.default_rng(3).normal(size=(3, 12))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # tensors this small are not worth a second


def batches(epoch: int, audio: np.ndarray = AUDIO) -> Iterator[tuple[Tensor, Tensor]]:
    order = np.random.default_rng(epoch).permutation(256)
    for part in np.array_split(order, 4):
        yield torch.from_numpy(audio[part]).half(), torch.from_numpy(VIDEO[part]).half()


def pretrained(seed: int = 0, features: np.ndarray = AUDIO, **keys: Any) -> tuple[TwoHeads, list[dict[str, float]]]:
    torch.manual_seed(5)
    experiment = Experiment(**{**SMALL, **keys})
    heads = build(experiment, 20, 12)
    return heads, initialise(heads, lambda epoch: batches(epoch, features), experiment, seed)


def equal(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("normalisation", ["batch", "layer", "none"])
def test_reconstruction_gets_better_than_the_mean(normalisation: str) -> None:
    keys: Any = {"normalisation": normalisation, "autoencoder": {"epochs": 60, "learning_rate": 0.01}}
    _, errors = pretrained(**keys)
    assert len(errors) == 60
    for modality in ("audio", "video"):
        assert errors[0][modality] > 0.5, "the untrained one is no better than the mean"
        assert errors[-1][modality] < 0.25, "three factors fit into eight numbers"


def test_the_seed_decides_and_the_callers_generator_is_left_alone() -> None:
    first, same, other = pretrained(1)[0], pretrained(1)[0], pretrained(2)[0]
    assert equal(first, same) and not equal(first, other)
    torch.manual_seed(9)
    expected = torch.rand(3)
    heads, experiment = build(Experiment(**SMALL), 20, 12), Experiment(**SMALL)
    torch.manual_seed(9)
    initialise(heads, batches, experiment, 0)
    assert torch.equal(torch.rand(3), expected)


def test_a_head_sees_only_its_modality() -> None:
    one, two = pretrained()[0], pretrained(features=AUDIO[:, ::-1].copy())[0]
    assert equal(one.video, two.video) and not equal(one.audio, two.audio)


def test_a_modality_without_a_head_is_left_out() -> None:
    heads, errors = pretrained(embedding=20, audio={"identity": True})
    assert set(errors[0]) == {"video"} and not list(heads.audio.parameters())


def test_standardise_is_numpys() -> None:
    features = AUDIO.copy()
    features[:, 4] = 1000.0
    batches = (features[:100], features[100:101], features[101:])
    standardise = Standardiser.fit(features.shape[1], map(torch.from_numpy, batches))
    deviation = features.std(0)
    deviation[4] = 1
    expected = (features - features.mean(0)) / deviation
    np.testing.assert_allclose(standardise(torch.from_numpy(features)).numpy(), expected, atol=1e-5)


def test_an_autoencoder_that_diverges_is_no_initialisation() -> None:
    audio = AUDIO.copy()
    audio[5, 2] = np.inf
    with pytest.raises(UserError, match=r"epoch 1 diverged \(error of audio nan.*lower autoencoder.learning_rate"):
        pretrained(0, audio)
