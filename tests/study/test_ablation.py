"""The ablation: its arms, equal steps, its statistics against scipy, and the answer on caches whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from config.cli import UserError
from config.heads import Experiment
from config.model import Config
from eval.bootstrap import metric_intervals
from eval.published import published_formula
from eval.ranks import ranks
from heads.checkpoint import About
from heads.dataset import load
from heads.fit import Training, fit
from heads.metrics import summary
from study.ablation import measure as measuring
from study.ablation import plots, train
from study.ablation.arms import CHANGES, MODE, START, arms, differing
from study.ablation.differences import bootstrap_p, difference, holm, measure, seeds_p, value
from study.ablation.sources import EVAL, TRAIN, Opened, Source, sources
from study.ablation.train import compared, fit_steps, name_of
from study.answer import Answer
from study.correlation.simulated import simulate as simulate_features
from study.trainings import read_trained
from tests.support.simulate import simulate

FIRST: dict[str, Any] = {
    "hidden": [24], "embedding": 12, "batch": 40, "schedule": "constant", "normalisation": "batch_fixed",
    "segment_policy": "first", "shuffle": "once", "repeat_step": True, "max_epochs": 10,
}  # fmt: skip
LAST: dict[str, Any] = {
    "hidden": [24], "embedding": 12, "batch": 60, "standardise": True, "output": "linear", "temperature": 0.1,
    "learned_temperature": True, "optimiser": "adamw", "learning_rate": 0.004, "weight_decay": 0.1,
    "schedule": "cosine", "warmup": 1, "segment_policy": "all", "max_epochs": 8,
}  # fmt: skip
ABLATION: dict[str, Any] = {
    "seeds": [0, 1, 2], "steps": 60, "checks": 6, "simulated": [0.5], "videos": 160, "gallery": 60, "dims": [20, 16],
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def cache(folder: Path, correlation: float = 1.0, **ablation: Any) -> Config:
    return simulate(
        folder,
        correlation,
        videos=300,
        dims=(24, 16),
        heads={"experiments": {"paper_code": FIRST, "recommended": LAST}},
        eval={"bootstrap": 200},
        study={"ablation": ABLATION | ablation, "correlation": {"simulated": {"factors": 4, "noise": 0.5}}},
    )


def test_every_setting_is_in_one_change() -> None:
    keys = [key for change in CHANGES.values() for key in change.keys]
    assert sorted(keys) == sorted(Experiment.model_fields)


@pytest.mark.parametrize("train_mode", [False, True])
def test_the_chain_leads_from_one_experiment_to_the_other(train_mode: bool) -> None:
    first, last = Experiment(**FIRST), Experiment(**LAST)
    chain, single = arms(first, last, train_mode)
    assert (chain[0].name, chain[0].experiment, chain[-1].experiment) == (START, first, last)
    names = (["mode"] if train_mode else []) + ["inputs", "temperature", "output", "optimiser", "batch", "segments"]
    assert [arm.name for arm in single] == names
    assert [arm.changes for arm in chain] == [tuple(names[:n]) for n in range(len(names) + 1)]
    assert chain[1] == single[0]
    for arm in [*chain, *single]:
        for name, change in CHANGES.items():
            source = last if name in arm.changes else first
            assert all(getattr(arm.experiment, key) == getattr(source, key) for key in change.keys)
    assert differing(first, last, ("segments",)) == [n for n in names if n not in (MODE, "segments")]
    assert differing(first, first) == []


def data() -> Any:
    spec = Config(results="r", videos="v.csv").study.correlation.simulated.model_copy(update={"gallery": 40})
    features = simulate_features(spec, (20, 16), 160, 0.8, 0)
    return features, lambda: load(features, ("train", "validation"), "cpu")


def test_every_arm_takes_equally_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in the optimiser, the repeated steps included; validations come at the same steps."""
    checks: list[int] = []
    whole = Training.validate

    def validate(self: Training) -> dict[str, float]:
        state = next(iter(self.optimiser.state.values()))
        checks.append(int(state["step"]))
        return whole(self)

    monkeypatch.setattr(Training, "validate", validate)
    chain, single = arms(Experiment(**FIRST), Experiment(**LAST), False)
    _, loaded = data()
    for arm in [*chain, *single]:
        checks.clear()
        weights, facts = fit_steps(loaded(), arm.experiment, 0, 25, 5)
        assert checks == [5, 10, 15, 20, 25], arm.name
        assert facts["step"] in checks and facts["validation_loss"] <= facts["last_validation_loss"]
        assert weights


@pytest.mark.parametrize("published", [True, False])
def test_steps_of_whole_epochs_are_the_training_of_heads_fit(published: bool) -> None:
    experiment = Experiment(**(FIRST if published else LAST)).model_copy(
        update={"max_epochs": 5, "patience": 5, "repeat_step": False}
    )
    features, loaded = data()
    same = About(
        experiment.model_dump(), 3, "sound", "picture", *features.dims, features.keys, features.random_weights,
        features.digest(),
    )  # fmt: skip
    progress = fit(loaded(), experiment, same, None, lambda line: None)
    per_epoch = 4 if published else 3
    weights, facts = fit_steps(loaded(), experiment, 3, 5 * per_epoch, 5)
    assert facts["step"] == progress.about.epoch * per_epoch
    assert facts["validation_loss"] == progress.about.validation_loss
    assert all(torch.equal(weights[name], tensor) for name, tensor in progress.best.items())


def test_p_values_are_those_of_their_tests() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.3, 1, 6).tolist()
    assert seeds_p(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue)
    assert seeds_p([1.0]) == seeds_p([2.0, 2.0]) == 1.0
    many = 10**7
    assert bootstrap_p(np.array([1.0] * 99), many) == pytest.approx(2 / 100, rel=1e-5)
    assert bootstrap_p(np.array([-1.0] * 10 + [1.0] * 89), many) == pytest.approx(22 / 100, rel=1e-5)
    assert bootstrap_p(np.zeros(50), many) == bootstrap_p(np.array([1.0] * 99), 1) == 1.0
    # The level at which the interval of the same resamples just reaches 0.
    drawn = np.sort(rng.normal(1.3, 1, 99_999))
    for groups in (8, 40):
        p = bootstrap_p(drawn, groups)
        low, _ = metric_intervals(drawn[:, None], groups, 1 - p, ["mrr"])["mrr"]
        assert abs(low) < 0.01
    # Holm's own procedure: compare the smallest with α/3, the next with α/2, the last with α.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_values_and_differences_are_paired_by_video_and_seed() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(20), 3)
    base = [rng.integers(1, 61, (2, 60)).astype(float) for _ in range(4)]
    better = [np.maximum(1, rank - 5) for rank in base]
    measured = [measure(arm, groups, 400, 0) for arm in (better, base)]
    row = value(measured[1], "median")
    medians = [(summary(a)["median"] + summary(v)["median"]) / 2 / 60 * 100 for a, v in base]
    assert row["median"] == pytest.approx(np.mean(medians))
    assert row["median_low"] < row["median"] < row["median_high"]  # type: ignore[operator]
    line = difference(*measured, "mrr")
    assert line["low"] > 0 and line["seeds_low"] > 0 and line["p"] < 0.05  # type: ignore[operator]
    # Paired: the interval of the difference is far narrower than those of the values.
    wide = value(measured[1], "median")
    narrow = difference(*measured, "median")
    assert narrow["high"] - narrow["low"] < wide["median_high"] - wide["median_low"]  # type: ignore[operator]
    assert difference(measured[0], measured[0], "mrr")["p"] == 1.0


def test_no_difference_is_seldom_found() -> None:
    """Arms that differ by chance alone: the larger p-value is at most .05 in at most 5 % of the cases, and noise."""
    rng = np.random.default_rng(2)
    groups, alarms = np.repeat(np.arange(25), 2), 0
    for _ in range(100):
        arms_ranks = [[rng.integers(1, 51, (2, 50)).astype(float) for _ in range(5)] for _ in range(2)]
        one, other = (measure(arm, groups, 200, 0) for arm in arms_ranks)
        alarms += difference(one, other, "mrr")["p"] <= 0.05  # type: ignore[operator]
    assert alarms <= 11  # the 99.8 % quantile of 100 tests at 5 %


def answered(config: Config) -> Answer:
    train.train(config, 1)
    return measuring.answer(config)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Answer]:
    """A cache of videos that were not rendered: used as it is, beside simulated features."""
    config = cache(tmp_path_factory.mktemp("real"))
    return config, answered(config)


@pytest.mark.workflow
def test_videos_that_were_not_rendered_are_used_as_they_are(real: tuple[Config, Answer]) -> None:
    config, made = real
    assert [source.name for source in sources(config)] == ["simulated_0.5", "real"]
    steps = made.tables["steps"]
    for source, names in (
        ("simulated_0.5", ["inputs", "temperature", "output", "optimiser", "batch"]),
        ("real", ["inputs", "temperature", "output", "optimiser", "batch", "segments"]),
    ):
        rows = [row for row in steps if row["source"] == source]
        titles = ["published formula", "true rank", *(CHANGES[name].title for name in names)]
        assert [row["step"] for row in rows] == titles
        assert [r["step"] for r in made.tables["single"] if r["source"] == source] == titles[2:]
        # The first change of the chain and the same alone are one training.
        alone = next(r for r in made.tables["single"] if r["source"] == source)
        assert rows[2]["mrr"] == alone["mrr"] and rows[2]["before_mrr"] == rows[2]["first_mrr"] == alone["first_mrr"]
    assert made.tables["achieved"] == []


@pytest.mark.workflow
def test_the_rows_are_what_the_ranks_say(real: tuple[Config, Answer]) -> None:
    config, made = real
    trained = read_trained(config, "ablation")
    rows = [row for row in made.tables["steps"] if row["source"] == "real"]
    chain, _ = compared(config, Source("real"))
    for row, arm in zip(rows[1:], chain, strict=True):
        by_seed = [trained.tensors[name_of("real", arm.name, seed) + "/ranks"].numpy() for seed in (0, 1, 2)]
        mrr = np.mean([summary(direction.astype(float))["mrr"] for ranked in by_seed for direction in ranked])
        assert row["mrr"] == pytest.approx(mrr)
    assert rows[3]["before_mrr"] == pytest.approx(rows[3]["mrr"] - rows[2]["mrr"])
    assert rows[3]["first_mrr"] == pytest.approx(rows[3]["mrr"] - rows[1]["mrr"])
    # Related videos: the formula is near the middle of the gallery, the true ranks are not.
    assert 35 < rows[0]["median"] < 65 and rows[1]["median"] < 25
    assert rows[1]["before_median"] == pytest.approx(rows[1]["median"] - rows[0]["median"])
    # Video → audio alone and counted from 0, as in eval/retrieval.py and study/correlation.
    published = [trained.tensors[name_of("real", START, seed) + "/published"].numpy() for seed in (0, 1, 2)]
    medians = [float(np.median(of_seed)) * 100 / rows[0]["gallery"] for of_seed in published]
    assert rows[0]["median"] == pytest.approx(np.mean(medians)) and min(of_seed.min() for of_seed in published) == 0
    assert rows[0]["median_low"] <= rows[0]["median"] <= rows[0]["median_high"]


@pytest.mark.workflow
def test_the_answer_can_be_written_and_drawn(real: tuple[Config, Answer], tmp_path: Path) -> None:
    _, made = real
    assert len(made.findings) == 4 and "`recommended` against `paper_code`" in made.findings[0].claim
    assert "training mode" in made.method and "left out" in made.method
    drawn = plots.plots(made, tmp_path)
    assert [plot.name for plot in drawn] == ["study-ablation-steps", "study-ablation-single"]
    assert "published formula" in drawn[0].alt and "real videos" in drawn[1].alt


@pytest.mark.workflow
def test_few_groups_are_a_limit(real: tuple[Config, Answer], monkeypatch: Any) -> None:
    config, made = real
    assert not any("groups: 95 %" in limit for limit in made.limits)
    monkeypatch.setattr("eval.bootstrap.FEW", 1000)
    notes = [limit for limit in measuring.answer(config).limits if "groups: 95 %" in limit]
    assert [note.split(" has ")[0] for note in notes] == [
        "The test split (simulated features, ρ = 0.5)",
        "The test split (real videos)",
    ]


@pytest.mark.workflow
def test_ranks_and_formula_are_of_the_same_embeddings(real: tuple[Config, Answer], monkeypatch: Any) -> None:
    config, _ = real
    kept: list[Any] = []
    monkeypatch.setattr(train, "ranks", lambda a, v, unit: kept.append((a, v)) or ranks(a, v, unit=unit))
    outcome = train.AblationTrainer(config)(name_of("real", START, 1))
    (audio, video), stored = kept[0], read_trained(config, "ablation").tensors
    name = name_of("real", START, 1)
    assert torch.equal(outcome.tensors["ranks"], stored[f"{name}/ranks"])
    np.testing.assert_array_equal(outcome.tensors["published"].numpy(), published_formula(video, audio))
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-6)


@pytest.mark.workflow
def test_rendered_videos_are_paired_and_training_mode_comes_first(tmp_path: Path) -> None:
    """Another backbone stands for the one in training mode: the audio's own features as video, which is easy."""
    config = simulate(
        tmp_path, 1.0, videos=300, dims=(24, 16), render={"videos": 300, "correlation": 1.0},
        heads={"experiments": {"paper_code": FIRST, "recommended": LAST}}, eval={"bootstrap": 100},
        study={"ablation": {**ABLATION, "simulated": [], "rendered": [0.5], "train_mode": {"video": "musicnn"}}},
    )  # fmt: skip
    config.check_ablation()
    (source,) = sources(config)
    drawn = Opened(config).draw(source, 0)
    assert source.name == "rendered_0.5" and set(drawn.features) == {EVAL, TRAIN}
    assert (drawn.features[EVAL].dims, drawn.features[TRAIN].dims) == ((24, 16), (24, 24))
    # One pairing for both modes, and groups of the audio's videos.
    audio = drawn.features[EVAL].arrays[0].read(np.arange(5))
    np.testing.assert_array_equal(audio, drawn.features[TRAIN].arrays[0].read(np.arange(5)))
    assert len(drawn.groups) == len(drawn.features[EVAL].splits["test"].rows)
    made = answered(config)
    assert [row["step"] for row in made.tables["steps"]][:3] == ["published formula", "true rank", "evaluation mode"]
    assert made.tables["achieved"][0]["source"] == "rendered_0.5" and "`musicnn`" in made.method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": "paper"}, r"study\.ablation\.first: 'paper' is no experiment"),
        ({"train_mode": {"video": "lite"}}, r"study\.ablation\.train_mode\.video: 'lite' is no backbone"),
    ],
)
def test_wrong_names_are_errors(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cache(tmp_path, **settings).check_ablation()
