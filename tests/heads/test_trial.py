"""A training in memory is the one that heads.train writes, or with other settings another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from config.cli import UserError
from config.model import Config
from heads.checkpoint import load_checkpoint
from heads.embed import embed, load_embeddings
from heads.runs import runs
from heads.train import train
from heads.trial import trial
from tests.support.simulate import simulate
from tests.support.trainings import metrics

SMALL = {"hidden": [16], "embedding": 8, "batch": 64, "max_epochs": 4, "patience": 4}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A cache with an unreadable video and a damaged segment, both of the test split where there is one."""
    heads = {"experiments": {"small": SMALL, "wide": SMALL | {"standardise": True}}, "seeds": [3, 4]}
    return simulate(
        tmp_path,
        videos=200,
        segments=2,
        dims=(24, 16),
        heads=heads,
        unreadable=[5],
        damaged=[(n, 1) for n in range(40)],
    )


@pytest.mark.parametrize("experiment", ["small", "wide"])
def test_it_is_what_the_workflow_trains_and_embeds(config: Config, experiment: str) -> None:
    train(config, experiment)
    embed(config, experiment)
    tried = trial(config.results, experiment)
    first = runs(config, experiment)[0]
    heads, about = load_checkpoint(first.folder / "checkpoint.safetensors")
    assert tried.epoch == about.epoch and tried.metrics == metrics(config, experiment)
    for name, tensor in heads.state_dict().items():
        assert torch.equal(tensor, tried.heads.state_dict()[name]), name
    stored = load_embeddings(first, tried.rows("test"), about.keys)
    for ours, theirs in zip(tried.embed("test"), (stored.audio, stored.video), strict=True):
        damaged = ~tried.features.splits["test"].good
        assert damaged.any() and np.isnan(ours[damaged]).all()
        np.testing.assert_array_equal(ours[~damaged], theirs[~damaged])


def test_settings_and_the_seed_can_be_changed_and_nothing_is_written(config: Config) -> None:
    before = sorted(config.paths.results.rglob("*"))
    tried = trial(config, "small", seed=4, embedding=5, max_epochs=2)
    assert tried.experiment.embedding == 5 and tried.experiment.hidden == [16]
    assert [block.shape for block in tried.embed("validation")] == [(len(tried.rows("validation")), 2, 5)] * 2
    assert tried.metrics[0] == trial(config, "small", seed=4, embedding=5, max_epochs=1).metrics[0]
    assert tried.metrics[0] != trial(config, "small", embedding=5, max_epochs=1).metrics[0]
    assert sorted(config.paths.results.rglob("*")) == before


def test_mistakes_are_named(config: Config) -> None:
    with pytest.raises(UserError, match="unheard"):
        trial(config, "unheard")
    with pytest.raises(UserError, match="layer"):
        trial(config, "small", layer=5)
