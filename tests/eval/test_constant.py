"""Constant features, as of silence or black frames: every module reports it, or finds nothing; none breaks."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from config.model import Config
from config.paths import Paths
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.compare import compare
from eval.diagnose.__main__ import diagnose
from eval.neighbours import neighbours
from eval.probe.__main__ import probe
from eval.report.__main__ import report
from eval.retrieval import retrieval
from heads.embed import embed
from heads.train import train
from study.aggregation import measure as measured_poolings
from study.aggregation import train as aggregation
from study.aggregation.plots import plots as pooling_plots
from study.answer import Answer
from study.fusion import measure as measured_fusions
from study.fusion import train as fusion
from study.fusion.plots import plots as fusion_plots
from study.length import measure as measured_lengths
from study.length import train as length
from study.length.plots import plots as length_plots
from study.relations import measure as relations
from study.relations.descriptors import AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS
from study.relations.plots import plots as relation_plots
from tests.support.simulate import described_cache, index_cache, label_by_audio, simulate

pytestmark = pytest.mark.workflow

SHORT = {"max_epochs": 2, "batch": 32}
VARIANTS = [{"seconds": 3, "count": 2}, {"seconds": 5, "count": 2}]
STUDY: dict[str, Any] = {
    "seeds": [0],
    "aggregation": {"recipe": SHORT, "replaced": [0, 1]},
    "fusion": {"max_epochs": 2},
    "length": {"videos": 150, "variants": VARIANTS, "counts": [1, 2], "totals": [], "folds": 2},
}
CONSTANT = [("musicnn", "r2plus1d"), ("musicnn",), ("r2plus1d",)]


@pytest.fixture(autouse=True)
def strict() -> Any:
    """No division by zero goes by in silence."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def make_constant(results: Path, names: Sequence[str]) -> None:
    """Give all videos of a cache the same features of these backbones."""
    group = zarr.open_group(Paths(results).features, mode="r+")
    for number, name in enumerate(names):
        values = group[name][:]
        values[~np.isnan(values[:, :, 0])] = np.random.default_rng(number).random(values.shape[2]) + 0.1
        group[name][:] = values


def cache(folder: Path, names: Sequence[str], **settings: Any) -> Config:
    config = simulate(
        folder,
        videos=150,
        heads={"experiments": {"head": SHORT, "auto": SHORT | {"initialisation": "autoencoder"}}},
        eval={"bootstrap": 100},
        probes={"max_epochs": 2},
        study=STUDY,
        splits={"train": 0.6, "validation": 0.2, "test": 0.2},
        **settings,
    )
    label_by_audio(config)
    make_constant(folder, names)
    return config


@pytest.mark.parametrize("names", CONSTANT)
def test_from_the_heads_to_the_report(tmp_path: Path, names: tuple[str, ...]) -> None:
    config = cache(tmp_path, names)
    index_cache(config)
    for task in config.labels.tasks:
        probe(config, task)
    beside = neighbours(config, "features")
    assert beside["constant"] == list(names)
    for backbone in names:
        by = {"musicnn": "audio", "r2plus1d": "video"}[backbone]
        assert all(not line["better_than_chance"] for line in beside["agreement"] if line["by"] == by)
    for name in config.heads.experiments:
        train(config, name)
        embed(config, name)
        retrieval(config, name)
        neighbours(config, name)
        for task in config.labels.tasks:
            probe(config, task, name)
        signs = {sign["name"]: sign for sign in diagnose(config, name)["findings"] if sign["verdict"] == "found"}
        assert "constant_features" in signs and "constant" in signs["constant_features"]["meaning"]
        assert "downstream_below_features" not in signs
    compare(config)
    page = report(config)
    assert "Constant features" in page.read_text()


@pytest.mark.parametrize("names", CONSTANT)
def test_the_study_finds_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    config = cache(tmp_path, names)
    aggregation.train(config, 1)
    check(measured_poolings.answer(config), pooling_plots, tmp_path)
    fusion.train(config, 1)
    check(measured_fusions.answer(config), fusion_plots, tmp_path)
    for variant in config.study.length.variants:
        folder = Paths(tmp_path).study_variant(variant.name)
        simulate(folder, videos=150, segments=variant.count)
        make_constant(folder, names)
    length.train(config)
    answer = measured_lengths.answer(config)
    check(answer, length_plots, tmp_path)
    assert not any(row["shown"] for row in answer.tables["differences"] if row["measure"].endswith("rank"))


@pytest.mark.parametrize("names", [(AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS), (AUDIO_DESCRIPTORS,), (VIDEO_DESCRIPTORS,)])
def test_descriptors_go_with_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    config = described_cache(tmp_path, 1.0, videos=120)
    make_constant(tmp_path, names)
    answer = relations.answer(config)
    check(answer, relation_plots, tmp_path)
    assert not any(row["significant"] for row in answer.tables["descriptors"])
    assert "not shown to be more alike than chance" in answer.findings[-1].claim


def test_a_single_class_is_not_probed(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=60)
    table = read_manifest(Paths(tmp_path).manifest)
    lines = [line | {"genre": "rock", "tags": ["one"]} for line in table.to_pylist()]
    write_manifest(Paths(tmp_path), type(table).from_pylist(lines, table.schema))
    for task in config.labels.tasks:
        write_labels(config, task)
        written = probe(config, task)
        assert written["results"] == [] and "nothing was measured" in written["notes"][0]


def check(answer: Answer, plots: Any, folder: Path) -> None:
    """Check that an answer can be written and drawn, and that its sentences hold no NaN or infinity."""
    json.dumps(answer.tables, allow_nan=False)
    assert all("nan" not in finding.claim.split() and "inf" not in finding.claim for finding in answer.findings)
    assert plots(answer, folder / "plots")
