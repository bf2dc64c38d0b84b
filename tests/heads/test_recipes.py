"""Experiments described by data, trained: every recipe resumes exactly, and its checkpoint is what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from heads import fit as training
from heads.checkpoint import load_checkpoint, read_tensors
from heads.dataset import open_data
from heads.embed import embed
from heads.features import load_features
from heads.train import train
from tests.support.simulate import simulate
from tests.support.trainings import killed, outputs

pytestmark = pytest.mark.workflow

SMALL = {"hidden": [32], "embedding": 16, "batch": 64, "patience": 9, "max_epochs": 4}
RECIPES: dict[str, dict[str, Any]] = {
    "modern": {
        "output": "linear", "temperature": 0.07, "learned_temperature": True, "optimiser": "adamw",
        "learning_rate": 0.003, "weight_decay": 0.1, "schedule": "cosine", "warmup": 1,
    },
    "siglip": {
        "loss": "siglip", "output": "linear", "temperature": 0.1, "learned_temperature": True, "optimiser": "sgd",
        "learning_rate": 0.1, "schedule": "constant", "activation": "gelu", "normalisation": "layer",
    },
    "paper": {"loss": "paper", "hidden": [32, 32], "normalisation": "none", "dropout": 0.0, "learning_rate": 0.001},
    "single": {"embedding": 24, "audio": {"identity": True}},
    "single_unnormalised": {"embedding": 24, "audio": {"identity": True, "normalise": False}},
    "published": {
        "schedule": "constant", "normalisation": "batch_fixed", "segment_policy": "first", "shuffle": "once",
        "repeat_step": True,
    },
    "autoencoder": {"initialisation": "autoencoder", "autoencoder": {"epochs": 2}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def cache(folder: Path, recipe: str) -> Config:
    return simulate(folder, videos=200, dims=(24, 16), heads={"experiments": {"small": {**SMALL, **RECIPES[recipe]}}})


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_resumes_exactly(tmp_path: Path, recipe: str) -> None:
    undisturbed, config = cache(tmp_path / "a", recipe), cache(tmp_path / "b", recipe)
    train(undisturbed, "small")
    with killed(lambda _, number: number > 2):
        train(config, "small")
    train(config, "small")
    assert outputs(config) == outputs(undisturbed)
    heads, about = load_checkpoint(Paths(tmp_path / "a").heads("small") / "checkpoint.safetensors")
    tensors, _ = read_tensors(Paths(tmp_path / "a").heads("small") / "checkpoint.safetensors")
    learned = {"modern": {"loss.log_scale"}, "siglip": {"loss.log_scale", "loss.bias"}}.get(recipe, set())
    assert set(tensors) == set(heads.state_dict()) | learned
    assert embed(undisturbed, "small")[0]["embedding"] == about.experiment["embedding"]


def first_seed(config: Config) -> training.Training:
    data = open_data(load_features(config), "cpu", None)
    return training.Training(data, config.heads.experiments["small"], 0)


@pytest.mark.parametrize("recipe", ["modern", "siglip"])
def test_what_the_loss_learns_moves_and_is_logged(tmp_path: Path, recipe: str) -> None:
    module = first_seed(cache(tmp_path, recipe))
    before = {name: p.detach().clone() for name, p in module.loss.named_parameters()}
    lines = [module.epoch(number) for number in (1, 2)]
    assert all(not torch.equal(p, before[name]) for name, p in module.loss.named_parameters())
    assert lines[0]["temperature"] != lines[1]["temperature"] == module.loss.temperature()
    for line in lines:
        for split in ("train", "validation"):
            assert line[f"{split}_lowest"] < line[f"{split}_loss"]


def test_the_autoencoder_changes_where_the_training_starts(tmp_path: Path) -> None:
    module = first_seed(cache(tmp_path, "autoencoder"))
    before = {name: p.detach().clone() for name, p in module.heads.named_parameters()}
    module.initialise()
    assert all(not torch.equal(p, before[name]) for name, p in module.heads.named_parameters())


def test_a_single_head_of_the_wrong_width_says_which_is_right(tmp_path: Path) -> None:
    experiment = {**SMALL, "audio": {"identity": True}}
    config = simulate(tmp_path, videos=200, dims=(24, 16), heads={"experiments": {"small": experiment}})
    with pytest.raises(UserError, match="set `embedding: 24`"):
        train(config, "small")
