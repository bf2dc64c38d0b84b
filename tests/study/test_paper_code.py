"""The authors' code as a question: the driver on a stand-in clone, true ranks, checkpoints, the answer and its plot."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.cli import UserError
from config.model import Config, load
from config.study import Study
from config.study.paper_code import PAPER_COMMIT, PAPER_MODULES
from eval.paper import MEDIAN_RANKS
from eval.published import published_formula
from study.answer import read_answer, write_answer
from study.correlation.simulated import draw
from study.paper_code import checkpoints, clone, data, measure, plots, runs, tables, train
from tests.support.cluster import until
from tests.support.commands import ROOT
from tests.support.paper_code import SMALL, write_clone
from tests.support.simulate import simulate

REAL = os.environ.get("MUSIC_VIDEOS_PAPER_CLONE")
"""A real clone of the authors' repository, for the last tests."""
real = pytest.mark.skipif(REAL is None, reason="MUSIC_VIDEOS_PAPER_CLONE names no clone of the authors' repository")


def made(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Train, write and read the answer, and return its tables."""
    train.train(config, 1)
    write_answer(config.paths, measure.answer(config))
    return read_answer(config.paths, "paper_code").tables


def asking(folder: Path, **settings: Any) -> Config:
    """Return a configuration that asks this question only, without videos."""
    study = {"questions": ["paper_code"], "seeds": [0], "paper_code": SMALL | settings}
    return load({"results": str(folder / "results"), "render": {}, "study": study})


def features(model: str, rho: float, train_videos: int, validation: int, seed: int = 0) -> runs.Features:
    config = load({"results": "r", "render": {}})
    drawn = draw(config.study.correlation.simulated, runs.WIDTHS, train_videos + validation, rho, seed)
    audio, video = (side[:, 0].astype(np.float32) for side in drawn.features)
    audio += 2 * (model == "single_head")
    return runs.Features(audio[:train_videos], video[:train_videos], audio[train_videos:], video[train_videos:])


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("paper_code")
    config = asking(folder, clone=str(write_clone(folder / "clone")), max_epochs=6)
    return config, made(config)


@pytest.mark.workflow
def test_true_ranks_follow_the_correlation_and_the_log_is_kept(answered: Any) -> None:
    config, answer = answered
    assert [(r["model"], r["correlation"]) for r in answer["runs"]] == [
        (model, rho) for model in ("baseline", "single_head") for rho in (0, 1)
    ]
    for row in answer["runs"]:
        assert (row["their_median_rank_v2a"], row["their_median_rank_a2v"], row["epochs"]) == (7, 7, 6)
        assert row["chance_loss"] == pytest.approx(2 * math.log(24)) and row["chance_rank"] == 12.5
        for direction in tables.DIRECTIONS:
            if row["correlation"] == 1:
                assert row[f"true_median_rank_{direction}"] < 6
            else:
                assert 8 < row[f"true_median_rank_{direction}"] < 17
    assert len(answer["epochs"]) == 4 * 6
    percent = {(r["model"], r["correlation"]): r["true_percent"] for r in answer["curves"]}
    assert percent["single_head", 1] < percent["single_head", 0] / 2
    assert not (config.paths.study_work("paper_code") / "running" / "simulated-baseline-0-0").exists()
    assert not list(Path(str(config.study.paper_code.clone)).rglob("__pycache__"))


@pytest.mark.workflow
def test_the_answer_names_the_code_and_its_figure_too(answered: Any, tmp_path: Path) -> None:
    config, answer = answered
    written = read_answer(config.paths, "paper_code")
    assert all(row["commit"] is None and not row["examined"] and len(row["sha256"]) == 64 for row in answer["code"])
    assert "without git" in written.method and "not at the commit" in written.limits[0]
    (plot,) = plots.plots(written, tmp_path)
    assert "without git" in plot.alt and (tmp_path / f"{plot.name}.svg").stat().st_size > 5000


@pytest.mark.workflow
def test_the_same_runs_again_give_the_same_and_other_code_runs_again(answered: Any, tmp_path: Path) -> None:
    config, answer = answered
    again = asking(tmp_path, clone=str(config.study.paper_code.clone), max_epochs=6, models=["baseline"], grid=[1])
    assert made(again)["runs"] == [answer["runs"][1]]
    before = train.basis(again)
    changed = tmp_path / "changed"
    write_clone(
        changed,
        evaluation=(Path(str(again.study.paper_code.clone)) / PAPER_MODULES / "evaluation.py").read_text() + "#",
    )
    other = again.study.paper_code.model_copy(update={"clone": str(changed)})
    study = again.study.model_copy(update={"paper_code": other})
    assert train.basis(again.model_copy(update={"study": study})) != before


@pytest.mark.workflow
def test_code_that_fails_is_shown_and_gets_no_variables_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    failing = "import os\nraise ValueError('A_SECRET' in os.environ, os.environ['HOME'], os.getcwd())\n"
    config = asking(tmp_path, clone=str(write_clone(tmp_path / "clone", train=failing)))
    with pytest.raises(UserError, match=r"ended with status 1(.|\n)*ValueError: \(False, '([^']*)', '\2'\)"):
        train.train(config, 1)


@pytest.mark.workflow
def test_the_cache_alone_is_fitted_to_the_widths_and_cut_to_whole_galleries(tmp_path: Path) -> None:
    settings = SMALL | {"cache": True, "grid": [], "gallery": 10, "clone": str(write_clone(tmp_path / "c"))}
    study = {"questions": ["paper_code"], "seeds": [0, 1], "paper_code": settings | {"models": ["single_head"]}}
    config = simulate(tmp_path, videos=150, dims=(1506, 600), unreadable=[3], damaged=[(5, 0)], study=study)
    answer = made(config)
    assert [(row["source"], row["seed"], row["correlation"]) for row in answer["runs"]] == [
        ("cache", 0, None),
        ("cache", 1, None),
    ]
    assert all(row["gallery"] == 10 and row["train_videos"] > 50 for row in answer["runs"])
    (line,) = answer["curves"]
    assert line["true_percent_groups_low"] <= line["true_percent"] <= line["true_percent_groups_high"]
    assert (
        line["groups"] > 5
        and f"{line['groups']} groups of videos" in read_answer(config.paths, "paper_code").findings[0].sure
    )
    written = read_answer(config.paths, "paper_code")
    assert "as they are (1506)" in written.method and "projected at random from 600 to 512" in written.method
    assert "no simulated features" in written.method and written.findings[0].claim.startswith("On the cache")
    assert plots.plots(written, tmp_path) == []


def test_true_ranks_on_one_cache_have_intervals_over_whole_groups() -> None:
    groups = np.repeat(np.arange(12), 5)
    ranks = np.repeat(np.random.default_rng(0).permutation(12) * 5.0 + 1, 5)
    by_group, by_video = (
        tables.over_groups({"last": [np.stack([ranks, ranks])] * 2, "best": [np.full((2, 60), 6.0)]}, units, 500, 0)
        for units in (groups, np.arange(60))
    )
    assert by_group["groups"] == 12 and by_group["true_percent_best_groups_low"] == 10
    width = [row["true_percent_groups_high"] - row["true_percent_groups_low"] for row in (by_group, by_video)]
    assert (
        width[0] > 1.3 * width[1] and by_group["true_percent_groups_low"] < 46.7 < by_group["true_percent_groups_high"]
    )


def test_fitting_keeps_inner_products_or_nearly() -> None:
    values = np.random.default_rng(0).standard_normal((20, 1000)).astype(np.float32)
    wide = data.fitted(values, 1506)
    assert wide.shape == (20, 1506)
    np.testing.assert_allclose(wide @ wide.T, values @ values.T, atol=1e-3)
    narrow = data.fitted(values, 512)
    assert narrow.shape == (20, 512) and narrow.dtype == np.float32
    np.testing.assert_allclose((narrow**2).sum(1), (values**2).sum(1), rtol=0.15)
    assert data.fitted(values, 1000) is values


def same_length(audio: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give all rows of a side one length and keep all dot products, so that cosines rank as dot products do.

    Each side gets a further dimension, zero on the other side (as Neyshabur & Srebro 2015, ICML, do for one side).
    """
    a, v = (np.square(side).sum(axis=1, keepdims=True) for side in (audio, video))
    missing_a, missing_v = np.sqrt(a.max() - a), np.sqrt(v.max() - v)
    return np.hstack([audio, missing_a, np.zeros_like(a)]), np.hstack([video, np.zeros_like(v), missing_v])


def test_ranks_by_dot_products_are_not_those_of_cosines() -> None:
    rng = np.random.default_rng(1)
    audio, video = rng.standard_normal((2, 60, 8)) * rng.uniform(0.1, 9, (2, 60, 1))
    for first in (0, 30):
        a, v = audio[first : first + 30], video[first : first + 30]
        similar = a @ v.T
        own = np.diag(similar)
        expected = [1 + (similar > own[:, None]).sum(1), 1 + (similar > own[None]).sum(0)]
        ranked = runs.true_ranks(audio, video, 30)[:, first : first + 30]
        np.testing.assert_array_equal(ranked, expected)
        np.testing.assert_array_equal(ranked, np.stack(runs.ranks(*same_length(a, v))))
    assert not np.array_equal(runs.true_ranks(audio, video, 60), np.stack(runs.ranks(audio, video)))


def test_incomplete_galleries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no multiple"):
        runs.run_once(tmp_path, tmp_path / "w", "baseline", features("baseline", 0, 4, 5), 2, 2, 1, 0)


def checkpoint(**changed: Any) -> dict[str, Any]:
    """Return a checkpoint of the single head as the authors' code saves it, with other entries on demand."""
    video = {
        "dense1.weight": torch.ones(4, 4),
        "bn1.weight": torch.ones(4),
        "bn1.bias": torch.zeros(4),
        "bn1.running_mean": torch.ones(4),
        "bn1.num_batches_tracked": torch.tensor(130),
        "dense2.weight": torch.ones(6, 4),
        "dense3.weight": torch.ones(0, 6),
    }
    whole = {"epoch": 2, "model": [video, {}], "best_rsum": torch.tensor(13.5), "opt": {}, "Eiters": 130}
    return whole | changed


def saved(path: Path, **changed: Any) -> Path:
    torch.save(checkpoint(**changed), path)
    return path


def test_a_checkpoint_is_described_and_compared_with_chance(tmp_path: Path) -> None:
    row = checkpoints.description(saved(tmp_path / "one.tar"))
    assert row["model"].startswith("single_head") and row["pairs_an_epoch"] == 65_000
    assert row["below_chance_a_direction"] == pytest.approx(math.log(1000) - 6.75, abs=1e-4)
    assert math.log(row["batch_at_chance"]) == pytest.approx(6.75, abs=1e-4)
    assert not row["batch_norm_affine_trained"] and row["batch_norm_running_trained"] and row["batch_norm_steps"] == 130
    two = checkpoint()["model"][0]
    del two["dense3.weight"]
    trained = {**two, "bn1.weight": torch.full((4,), 2.0)}
    row = checkpoints.description(saved(tmp_path / "two.tar", model=[trained, two]))
    assert row["model"].startswith("two heads") and row["batch_norm_affine_trained"]
    assert checkpoints.description(saved(tmp_path / "x.tar", model=[{}, {}]))["model"].startswith("none of")


class Hostile:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_checkpoints_that_need_code_or_are_none_are_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    saved(tmp_path / "hostile.tar", opt={"x": Hostile(trap)})
    (tmp_path / "pickle.tar").write_bytes(pickle.dumps(Hostile(trap)))
    (tmp_path / "pointer.tar").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    (tmp_path / "empty.tar").write_bytes(b"")
    whole = saved(tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    torch.save({"epoch": 1}, tmp_path / "keys.tar")
    torch.save([1], tmp_path / "list.tar")
    saved(tmp_path / "heads.tar", model={"a": 1})
    saved(tmp_path / "tensors.tar", model=[{"a": 1}, {}])
    saved(tmp_path / "number.tar", best_rsum="low")
    for name, message in {
        "hostile": "more than tensors",
        "pickle": "more than tensors",
        "pointer": "Git LFS pointer",
        "empty": "no checkpoint",
        "cut": "damaged",
        "keys": "has no model, best_rsum, opt, Eiters",
        "list": "has no epoch",
        "heads": "not a state of two heads",
        "tensors": "not tensors",
        "number": "not a number",
        "missing": "does not exist",
    }.items():
        with pytest.raises(UserError, match=message) as raised:
            checkpoints.description(tmp_path / f"{name}.tar")
        assert f"{name}.tar" in str(raised.value)
    assert not trap.exists()


def test_rows_of_zeros_lower_the_loss_as_computed() -> None:
    gallery, whole, dropped = 50, 4, 30
    videos = gallery * whole + dropped
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(200):
        zero = rng.permutation(videos) < dropped
        for first in range(0, gallery * whole, gallery):
            z = torch.from_numpy(zero[first : first + gallery])
            # All others alike and far from zero: no alignment.
            logits = 40.0 * (~z[:, None] & ~z[None]).double()
            losses.append(2 * torch.nn.functional.cross_entropy(logits, torch.arange(gallery)).item())
    expected = checkpoints.zeros_loss(videos, dropped * gallery * whole / videos, gallery)
    assert np.mean(losses) == pytest.approx(expected, abs=0.01)
    assert checkpoints.zeros_loss(1000, 0) == pytest.approx(2 * math.log(1000))


def test_alternatives_are_the_first_numbers_that_reach_the_loss(tmp_path: Path) -> None:
    row = checkpoints.description(saved(tmp_path / "one.tar", best_rsum=torch.tensor(13.6166)))
    lines = checkpoints.alternatives(row)
    assert [line["whole_galleries"] for line in lines] == list(range(1, 9))
    for line in lines:
        rows = line["whole_galleries"] * 1000
        stored = 13.6166 * (line["whole_galleries"] + 1e-4) / line["whole_galleries"]
        losses = [
            checkpoints.zeros_loss(n, (n - rows) * rows / n) for n in (line["from_videos"] - 1, line["from_videos"])
        ]
        assert losses[0] > stored >= losses[1]
        assert line["from_videos_95"] < line["from_videos"] < line["to_videos"] == rows + 999
    # Two thirds of the rows at least: more zeros than that have only one and two whole galleries.
    assert [line["whole_galleries"] for line in checkpoints.alternatives({**row, "best_rsum": 13.3})] == [1, 2]
    assert checkpoints.alternatives({**row, "best_rsum": 12.0}) == []


def test_table_1_is_where_the_formula_puts_any_model() -> None:
    rng = np.random.default_rng(0)
    medians = [np.mean([np.median(rng.integers(0, 1000, 1000)) for _ in range(9)]) for _ in range(1000)]
    rows = tables.table1()
    low, high = rows[0]["formula_any_model_low"], rows[0]["formula_any_model_high"]
    assert np.mean([low <= median <= high for median in medians]) == pytest.approx(0.95, abs=0.02)
    assert [row["experiment"] for row in rows] == list(MEDIAN_RANKS)
    assert all(row["inside"] and not row["equal"] for row in rows)


def test_the_clone_is_identified_by_git_or_by_its_files(tmp_path: Path) -> None:
    folder = write_clone(tmp_path / "clone")
    assert clone.described(folder)["commit"] is None and clone.words(clone.described(folder)).startswith(
        "a copy without"
    )

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout

    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        git(*command)
    described = clone.described(folder)
    assert described["commit"] == git("rev-parse", "HEAD").strip() and described["changed"] is False
    assert not described["examined"] and clone.words(described) == f"commit {described['commit'][:7]}"
    with open(folder / PAPER_MODULES / "train.py", "a") as file:
        file.write("#")
    changed = clone.described(folder)
    assert changed["changed"] and changed["files"]["train.py"] != described["files"]["train.py"]
    assert clone.words(changed).endswith(", changed")
    nested = write_clone(folder / "nested")
    assert clone.described(nested)["commit"] is None  # the commit of the folder around it says nothing of its files


def test_the_question_is_asked_by_name_alone_and_needs_a_clone(tmp_path: Path) -> None:
    assert "paper_code" not in Study().questions and Study().needs_videos
    with pytest.raises(UserError, match=f"git clone(.|\n)*{PAPER_COMMIT}"):
        asking(tmp_path).check_study()
    with pytest.raises(UserError, match=r"has no data.py, evaluation.py"):
        asking(tmp_path, clone=str(tmp_path)).check_study()
    folder = write_clone(tmp_path / "clone")
    with pytest.raises(UserError, match=r"checkpoints: .*none\.tar is no file"):
        asking(tmp_path, clone=str(folder), checkpoints=[str(tmp_path / "none.tar")]).check_study()
    with pytest.raises(UserError, match="without correlations in `grid`, `cache` must be true"):
        asking(tmp_path, clone=str(folder), grid=[])
    config = asking(tmp_path, clone=str(folder))
    config.check_study()
    assert not config.study.needs_videos
    with pytest.raises(UserError, match=r"trained\.safetensors does not exist"):
        measure.answer(config)


@pytest.mark.workflow
def test_the_driver_ends_with_its_parent(tmp_path: Path) -> None:
    endless = "import os, time\nopen('pid.part', 'w').write(str(os.getpid()))\nos.rename('pid.part', 'pid')\n"
    folder = write_clone(tmp_path / "clone", train=endless + "time.sleep(600)\n")
    script = (
        "import sys; from pathlib import Path; import numpy as np; from study.paper_code import runs\n"
        "f = runs.Features(*(np.zeros((4, w), np.float32) for w in (1506, 512, 1506, 512)))\n"
        "runs.run_once(Path(sys.argv[1]), Path(sys.argv[2]), 'baseline', f, 2, 2, 1, 0)\n"
    )
    command = [sys.executable, "-c", script, str(folder / PAPER_MODULES), str(tmp_path / "work")]
    parent = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        until(lambda: (tmp_path / "work" / "pid").exists(), 60, "the driver has started")
    finally:
        parent.kill()
        parent.wait()
    pid = int((tmp_path / "work" / "pid").read_text())
    until(lambda: not running(pid), 20, "the driver has ended")


def running(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@real
@pytest.mark.workflow
def test_the_real_code_logs_half_the_gallery_for_aligned_embeddings(tmp_path: Path) -> None:
    folder = Path(str(REAL)) / PAPER_MODULES
    for model in runs.MODELS:
        made_of = features(model, 1, 1500, 600)
        outcome = runs.run_once(folder, tmp_path / model, model, made_of, 300, 300, 12, 0)
        ranked = runs.true_ranks(outcome.embeddings["audio.best"], outcome.embeddings["video.best"], 300)
        assert np.median(ranked) < 15
        last = outcome.epochs[-1]
        assert last[tables.THEIRS["a2v"]] == last[tables.THEIRS["v2a"]]
        assert 110 < last[tables.THEIRS["v2a"]] < 190
        # Our own implementation of their formula, on the embeddings of the last epoch.
        video, audio = outcome.embeddings["video.last"], outcome.embeddings["audio.last"]
        ours = [np.median(published_formula(video[i : i + 300], audio[i : i + 300])) for i in (0, 300)]
        assert sum(ours) / 2.0001 == pytest.approx(last[tables.THEIRS["v2a"]], abs=3)


@real
def test_the_real_clone_is_the_examined_one_and_its_checkpoint_is_below_chance() -> None:
    folder = Path(str(REAL))
    assert clone.described(folder)["examined"]
    row = checkpoints.description(folder / "data" / "06_models" / "Single_proj_head.tar")
    assert row["model"].startswith("single_head") and not row["batch_norm_affine_trained"]
    assert (row["epoch"], row["steps"]) == (23, 1495) and row["below_chance_a_direction"] == pytest.approx(
        0.0994, abs=1e-4
    )
