"""Aggregation and fusion of a simulated cache from training to answer and plots, where the result is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from study import trainings
from study.aggregation import measure as measure_poolings
from study.aggregation import plots as pooling_plots
from study.aggregation import train as aggregation
from study.answer import Answer, read_answer, write_answer
from study.fusion import measure as measure_fusions
from study.fusion import plots as fusion_plots
from study.fusion import train as fusion
from tests.support.commands import execute
from tests.support.simulate import label_by_audio, simulate

pytestmark = pytest.mark.workflow

RECIPE = {
    **{"hidden": [32], "embedding": 16, "output": "linear", "temperature": 0.1, "dropout": 0.1, "batch": 64},
    **{"optimiser": "adamw", "learning_rate": 0.005, "schedule": "constant", "patience": 9, "max_epochs": 9},
}
VIDEOS = 400


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def simulated(folder: Path, correlation: float, study: dict[str, Any]) -> Config:
    """Write a cache with damaged segments, whose labels follow the first audio features."""
    config = simulate(
        folder,
        correlation,
        videos=VIDEOS,
        dims=(24, 16),
        unreadable=[3],
        damaged=[(5, 1), (9, 0)],
        splits={"train": 0.5, "validation": 0.2, "test": 0.3},
        eval={"bootstrap": 200},
        study=study,
    )
    label_by_audio(config)
    return config


def poolings(folder: Path, correlation: float, **study: Any) -> Config:
    return simulated(
        folder, correlation, {"seeds": [0], "aggregation": {"recipe": RECIPE, "replaced": [0, 2]}, **study}
    )


def fusions(folder: Path, correlation: float, epochs: int = 12) -> Config:
    settings = {"hidden": 32, "max_epochs": epochs, "batch": 32, "learning_rate": 0.005, "components": 6}
    return simulated(folder, correlation, {"seeds": [0], "fusion": settings})


def test_poolings_find_what_is_planted(tmp_path: Path) -> None:
    config = poolings(tmp_path, 1.0)
    aggregation.train(config, 1)
    answer = measure_poolings.answer(config)
    rows = {row["pooling"]: row for row in answer.tables["poolings"]}
    assert set(rows) == set(measure_poolings.NAMES.values())
    for name, row in rows.items():
        assert row["mrr_low"] > 5 * row["mrr_chance"], name
        assert row["median_low"] <= row["median"] <= row["median_high"] < row["median_chance"] / 3, name
    assert rows["mean"]["pooling_parameters"] == 0 < rows["transformer"]["pooling_parameters"]
    assert rows["mean after training"]["steps"] > rows["mean"]["steps"] == rows["mean after (one segment)"]["steps"]
    ratios = {row["replaced"]: row["ratio"] for row in answer.tables["inconsistency"] if row["side"] == "video"}
    assert ratios[0] < ratios[2]
    level = {(row["pooling"], row["replaced"]): row["mrr"] for row in answer.tables["degradation"]}
    assert all(level[name, 2] < level[name, 0] for name in rows)
    assert answer.random_weights == ["r2plus1d"]
    check_written(config, answer, pooling_plots, 3)


def check_written(config: Config, answer: Answer, drawer: Any, figures: int) -> None:
    """Check that the answer is read as written, that its sentences are whole, and that its plots are drawn."""
    paths = config.paths
    write_answer(paths, answer)
    assert read_answer(paths, answer.part) == answer
    for text in [*(f.claim for f in answer.findings), *(f.sure for f in answer.findings), answer.method]:
        assert text[-1] in ".)" and "{" not in text and "nan" not in text and "None" not in text, text
    drawn = drawer.plots(answer, paths.report / "plots")
    assert len(drawn) == figures and all((paths.report / "plots" / f"{plot.name}.png").exists() for plot in drawn)


def test_where_nothing_is_shared_no_pooling_finds_it(tmp_path: Path) -> None:
    config = poolings(tmp_path, 0.0, aggregation={"recipe": {**RECIPE, "max_epochs": 3}, "replaced": [0]}, seeds=[0, 1])
    aggregation.train(config, 1)
    answer = measure_poolings.answer(config)
    for row in answer.tables["poolings"]:
        assert abs(row["mrr"] - row["mrr_chance"]) < 0.03 and row["median"] > 0.75 * row["median_chance"]
    assert not any(row["better"] for row in answer.tables["differences"])
    assert "no pooling is shown to be better" in answer.findings[0].claim


def test_fusions_find_what_is_planted(tmp_path: Path) -> None:
    config = fusions(tmp_path, 1.0)
    fusion.train(config, 1)
    answer = measure_fusions.answer(config)
    auc = {(r["task"], r["fusion"], r["modality_dropout"], r["missing"]): r["auc"] for r in answer.tables["fusions"]}
    for task in ("genre", "tagging"):
        for name in measure_fusions.NAMES.values():
            assert auc[task, name, False, "nothing"] > 0.75, (task, name)
        for missing in ("video", "audio"):
            for name in ("concatenation", "gated", "low-rank bilinear", "cross-attention", "linear CCA"):
                assert auc[task, name, True, missing] > 0.7, (task, name, missing)
    trained = trainings.read_trained(config, "fusion")
    assert "unheard" not in trained.same["tasks"]["genre"]["classes"]
    assert 0 not in trained.same["tasks"]["genre"]["rows"]["test"]
    assert 3 not in sum(trained.same["tasks"]["tagging"]["rows"].values(), [])
    check_written(config, answer, fusion_plots, 2)


def test_independent_video_predicts_nothing(tmp_path: Path) -> None:
    config = fusions(tmp_path, 0.0, epochs=6)
    fusion.train(config, 1)
    rows = measure_fusions.answer(config).tables["fusions"]
    for row in rows:
        if row["fusion"] == "video alone" or row["missing"] == "audio":
            assert row["auc"] == pytest.approx(0.5, abs=0.12), row
        elif row["fusion"] == "audio alone":
            assert row["auc"] > 0.75


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = {"recipe": {**RECIPE, "max_epochs": 2}, "replaced": [0]}
    config = poolings(tmp_path, 1.0, aggregation=study, seeds=[0])
    folder = Paths(tmp_path).study_work("aggregation")
    aggregation.train(config, 1)
    whole = (folder / trainings.TRAINED).read_bytes()
    assert [path.name for path in folder.iterdir()] == [trainings.TRAINED]
    (folder / trainings.TRAINED).unlink()

    real, trained_now = aggregation.train_one, []

    def killed(config: Config, data: Any, name: str) -> trainings.Outcome:
        if len(trained_now) == 3:
            raise KeyboardInterrupt
        trained_now.append(name)
        return real(config, data, name)

    monkeypatch.setattr(aggregation, "train_one", killed)
    with pytest.raises(KeyboardInterrupt):
        aggregation.train(config, 1)
    half = folder / "pieces" / f"{trained_now[0]}.safetensors"
    half.write_bytes(half.read_bytes()[:100])
    again: list[str] = []
    monkeypatch.setattr(aggregation, "train_one", lambda c, d, name: again.append(name) or real(c, d, name))  # type: ignore[func-returns-value]
    aggregation.train(config, 1)
    assert set(again).isdisjoint(trained_now[1:]) and trained_now[0] in again
    assert (folder / trainings.TRAINED).read_bytes() == whole


@pytest.mark.parametrize(("recipe", "expected"), [(1, ["b"]), (2, ["a", "b"])])
def test_pieces_of_another_recipe_are_made_again(tmp_path: Path, recipe: int, expected: list[str]) -> None:
    trained_now: list[str] = []

    def make(name: str) -> trainings.Outcome:
        trained_now.append(name)
        return trainings.Outcome({"x": torch.ones(2)}, {"how": "anew"})

    kept = tmp_path / "pieces" / "a.safetensors"
    trainings.write_tensors(kept, {"x": torch.zeros(2)}, {"same": {"recipe": 1}, "facts": {"how": "before"}})
    trainings.work_off(tmp_path, ["a", "b"], {"recipe": recipe}, lambda given: make, None, 1)
    tensors, metadata = trainings.read_tensors(tmp_path / trainings.TRAINED)
    assert trained_now == expected
    assert metadata["facts"]["a"]["how"] == ("before" if recipe == 1 else "anew")
    assert tensors["a/x"].tolist() == ([0, 0] if recipe == 1 else [1, 1]) and tensors["b/x"].tolist() == [1, 1]


def test_command_lines_and_what_they_refuse(tmp_path: Path) -> None:
    study = {"recipe": {**RECIPE, "max_epochs": 1}, "replaced": [0]}
    config = poolings(tmp_path, 1.0, aggregation=study, seeds=[0])

    def call(module: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, "--config", str(tmp_path / "config.json"), *more]
        return execute(command)

    premature = call("study.aggregation.measure")
    assert premature.returncode == 2 and "trained.safetensors does not exist" in premature.stderr
    done = call("study.aggregation.train", "--threads", "2")  # in processes of their own
    assert done.returncode == 0, done.stderr
    parallel = (Paths(tmp_path).study_work("aggregation") / trainings.TRAINED).read_bytes()
    aggregation.train(config, 1)
    assert (Paths(tmp_path).study_work("aggregation") / trainings.TRAINED).read_bytes() == parallel

    def changed(**settings: Any) -> Config:
        part = config.study.aggregation.model_copy(update=settings)
        return config.model_copy(update={"study": config.study.model_copy(update={"aggregation": part})})

    for replaced in ([0, 3], [1], [-1, 0]):
        with pytest.raises(UserError, match="study.aggregation.replaced"):
            aggregation.train(changed(replaced=replaced), 1)
    simulate(tmp_path, videos=VIDEOS, dims=(24, 16), keys=("c" * 64, "b" * 64))
    with pytest.raises(UserError, match="other features than the cache"):
        measure_poolings.answer(config)
