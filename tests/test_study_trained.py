"""Aggregation and fusion of a simulated cache from training to answer and plots: what is planted is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from simulate import label_by_sound, simulate

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from eval.study import aggregation as measure_poolings
from eval.study import fusion as measure_fusions
from eval.study.answer import Answer, read_answer, write_answer
from eval.study.plots import aggregation as pooling_plots
from eval.study.plots import fusion as fusion_plots
from heads.study import aggregation, fusion, pieces
from tests.commands import execute

RECIPE = {
    **{"hidden": [32], "embedding": 16, "output": "linear", "temperature": 0.1, "dropout": 0.1, "batch": 64},
    **{"optimiser": "adamw", "learning_rate": 0.005, "schedule": "constant", "patience": 9, "max_epochs": 9},
}
VIDEOS = 400


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def made(folder: Path, correlation: float, study: dict[str, Any]) -> Config:
    """A simulated cache with damaged segments, whose labels follow the sound's first features."""
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
    label_by_sound(config)
    return config


def poolings(folder: Path, correlation: float, **study: Any) -> Config:
    return made(folder, correlation, {"seeds": [0], "aggregation": {"recipe": RECIPE, "replaced": [0, 2]}, **study})


def fusions(folder: Path, correlation: float, epochs: int = 12) -> Config:
    settings = {"hidden": 32, "max_epochs": epochs, "batch": 32, "learning_rate": 0.005, "components": 6}
    return made(folder, correlation, {"seeds": [0], "fusion": settings})


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
    unlike = {row["replaced"]: row["ratio"] for row in answer.tables["inconsistency"] if row["side"] == "video"}
    assert unlike[0] < unlike[2]
    level = {(row["pooling"], row["replaced"]): row["mrr"] for row in answer.tables["degradation"]}
    assert all(level[name, 2] < level[name, 0] for name in rows)
    assert answer.random_weights == ["r2plus1d"]
    said(config, answer, pooling_plots, 3)


def said(config: Config, answer: Answer, drawer: Any, figures: int) -> None:
    """The answer survives its file, no sentence has a hole, and its plots are drawn."""
    paths = Paths(Path(config.results))
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
        for missing in ("pictures", "sound"):
            for name in ("concatenation", "gated", "low-rank bilinear", "cross-attention", "linear CCA"):
                assert auc[task, name, True, missing] > 0.7, (task, name, missing)
    trained = pieces.read_trained(config, "fusion")
    assert "unheard" not in trained.same["tasks"]["genre"]["classes"]
    assert 0 not in trained.same["tasks"]["genre"]["rows"]["test"]
    assert 3 not in sum(trained.same["tasks"]["tagging"]["rows"].values(), [])
    said(config, answer, fusion_plots, 2)


def test_independent_pictures_tell_nothing(tmp_path: Path) -> None:
    config = fusions(tmp_path, 0.0, epochs=6)
    fusion.train(config, 1)
    rows = measure_fusions.answer(config).tables["fusions"]
    for row in rows:
        if row["fusion"] == "pictures alone" or row["missing"] == "sound":
            assert row["auc"] == pytest.approx(0.5, abs=0.12), row
        elif row["fusion"] == "sound alone":
            assert row["auc"] > 0.75


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = {"recipe": {**RECIPE, "max_epochs": 2}, "replaced": [0]}
    config = poolings(tmp_path, 1.0, aggregation=study, seeds=[0])
    folder = Paths(tmp_path).study_work("aggregation")
    aggregation.train(config, 1)
    whole = (folder / pieces.TRAINED).read_bytes()
    assert [path.name for path in folder.iterdir()] == [pieces.TRAINED]
    (folder / pieces.TRAINED).unlink()

    real, made_now = aggregation.train_one, []

    def dies(config: Config, data: Any, name: str) -> pieces.Piece:
        if len(made_now) == 3:
            raise KeyboardInterrupt
        made_now.append(name)
        return real(config, data, name)

    monkeypatch.setattr(aggregation, "train_one", dies)
    with pytest.raises(KeyboardInterrupt):
        aggregation.train(config, 1)
    half = folder / "pieces" / f"{made_now[0]}.safetensors"
    half.write_bytes(half.read_bytes()[:100])
    again: list[str] = []
    monkeypatch.setattr(aggregation, "train_one", lambda c, d, name: again.append(name) or real(c, d, name))  # type: ignore[func-returns-value]
    aggregation.train(config, 1)
    assert set(again).isdisjoint(made_now[1:]) and made_now[0] in again
    assert (folder / pieces.TRAINED).read_bytes() == whole


@pytest.mark.parametrize(("recipe", "expected"), [(1, ["b"]), (2, ["a", "b"])])
def test_pieces_of_another_recipe_are_made_again(tmp_path: Path, recipe: int, expected: list[str]) -> None:
    made_now: list[str] = []

    def make(name: str) -> pieces.Piece:
        made_now.append(name)
        return {"x": torch.ones(2)}, {"how": "anew"}

    kept = tmp_path / "pieces" / "a.safetensors"
    pieces.write_tensors(kept, {"x": torch.zeros(2)}, {"same": {"recipe": 1}, "facts": {"how": "before"}})
    pieces.work_off(tmp_path, ["a", "b"], {"recipe": recipe}, lambda given: make, None, 1)
    tensors, metadata = pieces.read_tensors(tmp_path / pieces.TRAINED)
    assert made_now == expected
    assert metadata["facts"]["a"]["how"] == ("before" if recipe == 1 else "anew")
    assert tensors["a/x"].tolist() == ([0, 0] if recipe == 1 else [1, 1]) and tensors["b/x"].tolist() == [1, 1]


def test_command_lines_and_what_they_refuse(tmp_path: Path) -> None:
    study = {"recipe": {**RECIPE, "max_epochs": 1}, "replaced": [0]}
    config = poolings(tmp_path, 1.0, aggregation=study, seeds=[0])

    def call(module: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, "--config", str(tmp_path / "config.json"), *more]
        return execute(command)

    early = call("eval.study.aggregation")
    assert early.returncode == 2 and "trained.safetensors does not exist" in early.stderr
    done = call("heads.study.aggregation", "--threads", "2")  # in processes of their own
    assert done.returncode == 0, done.stderr
    apart = (Paths(tmp_path).study_work("aggregation") / pieces.TRAINED).read_bytes()
    aggregation.train(config, 1)
    assert (Paths(tmp_path).study_work("aggregation") / pieces.TRAINED).read_bytes() == apart

    def changed(**settings: Any) -> Config:
        part = config.study.aggregation.model_copy(update=settings)
        return config.model_copy(update={"study": config.study.model_copy(update={"aggregation": part})})

    for replaced in ([0, 3], [1], [-1, 0]):
        with pytest.raises(UserError, match="study.aggregation.replaced"):
            aggregation.train(changed(replaced=replaced), 1)
    simulate(tmp_path, videos=VIDEOS, dims=(24, 16), keys=("c" * 64, "b" * 64))
    with pytest.raises(UserError, match="other features than the cache"):
        measure_poolings.answer(config)
