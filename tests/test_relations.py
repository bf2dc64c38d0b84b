"""The part `relations` from a cache to the answer, its plots and its words, on descriptors with planted relations."""

import json
import sys
import warnings

import numpy as np
import pytest

from config.cli import UserError
from data.render.latents import Factors
from eval.study import relations
from eval.study.described import PICTURE, SOUND, describe, synchrony_of
from eval.study.planted import latents, sectional
from eval.study.plots.relations import plots
from pipeline.backbones.descriptors import DESCRIPTORS, WIDTHS, places
from pipeline.features import open_features
from pipeline.shards import Shards
from tests.commands import execute
from tests.simulate import simulate


def described_cache(folder, correlation, **more):
    """A cache whose sound and picture arrays are the descriptors', with random numbers of a common origin."""
    return simulate(
        folder,
        correlation,
        dims=(WIDTHS[SOUND], WIDTHS[PICTURE]),
        names=(SOUND, PICTURE),
        backbones={SOUND: {"weights": "none"}, PICTURE: {"weights": "none"}},
        heads={"audio": SOUND, "video": PICTURE},
        eval={"bootstrap": 100},
        study={"relations": {"permutations": 3, "null_seeds": 5, "videos": 150}},
        **{"videos": 240, "shard_videos": 80, **more},
    )


def test_from_the_cache_to_the_page(tmp_path):
    config = described_cache(tmp_path, 1.0, unreadable=[3], damaged=[(5, 0), (6, 0), (6, 1), (6, 2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        answer = relations.answer(config, threads=2)
    tables = answer.tables
    assert len(tables["descriptors"]) == len(DESCRIPTORS[SOUND]) * len(DESCRIPTORS[PICTURE])
    assert tables["descriptors"][0]["videos"] == 238  # the third has no pictures, the sixth no undamaged segment
    assert sum(row["significant"] for row in tables["descriptors"]) > 10
    assert {row["space"] for row in tables["readable"]} == {SOUND, PICTURE}
    assert all(row["videos"] == 150 and row["r2"] <= 1 for row in tables["readable"])
    assert tables["spaces"][0]["cka"] > 2 * tables["spaces"][0]["cka_chance_high"]
    assert "planted" not in tables and answer.random_weights == [] and "baseline" in answer.limits[-1]
    json.dumps(answer.tables, allow_nan=False)
    drawn = plots(answer, tmp_path / "plots")
    names = {f"study-relations-{name}" for name in ("descriptors", "spaces", "canonical", "readable")}
    assert {plot.name for plot in drawn} == names and all((tmp_path / "plots" / f"{n}.svg").exists() for n in names)
    assert len(answer.findings) == 5 and all(f.claim.endswith(".") and f.sure for f in answer.findings)


def test_at_correlation_0_nothing_is_said_to_go_together(tmp_path):
    answer = relations.answer(described_cache(tmp_path, 0.0))
    assert not any(row["significant"] for row in answer.tables["descriptors"])
    assert answer.findings[0].claim.startswith("0 of 70 pairs of descriptors go together, 0 also inside genres.")
    assert "no more than chance would have it" in answer.findings[2].claim
    assert "no more alike than chance" in answer.findings[-1].claim


def test_a_videos_descriptors_are_means_and_mean_directions(tmp_path):
    config = described_cache(tmp_path, 0.5, damaged=[(5, 1)], videos=100)
    features, rows = open_features(config.results), np.arange(100)
    arrays = [Shards.open(features.folder / name) for name in (SOUND, PICTURE)]
    found = describe(*arrays, rows, 2, 30, scheduler="synchronous")
    sound, picture = (array.read().astype(np.float64) for array in arrays)
    where = places(SOUND)
    expected = sound[..., 0].mean(axis=1)
    expected[5] = sound[5, [0, 2], 0].mean()  # what is damaged on one side counts on neither
    np.testing.assert_allclose(found.sound["tempo"], expected, rtol=1e-5)
    keys = sound[7, :, where["key"]].T
    angle = np.angle(keys[0].mean() + 1j * keys[1].mean())
    np.testing.assert_allclose(found.sound["key"][7], [np.cos(angle), np.sin(angle)], atol=1e-5)
    onset, change = sound[..., where["onset"]][9, :, :29], picture[..., places(PICTURE)["change"]][9, :, :29]
    assert found.synchrony[0, 9] == pytest.approx(synchrony_of(onset, change).mean(), abs=1e-4)
    assert found.synchrony.shape == (3, 100) and not np.allclose(found.synchrony[0], found.synchrony[1])


def test_synchrony_is_the_largest_correlation_over_lags():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 29))
    a, b = x - x.mean(), y - y.mean()
    lags = [sum(a[t] * b[t + lag] for t in range(29) if 0 <= t + lag < 29) for lag in range(-2, 3)]
    assert synchrony_of(x, y) == pytest.approx(max(lags) / np.sqrt((a @ a) * (b @ b)))
    beat = np.zeros((2, 29))
    beat[0, 3::6], beat[1, 5::6] = 1, 1  # every change two bins after a note
    assert synchrony_of(beat[0], beat[1]) > 0.9 > 0.3 > synchrony_of(beat[0], np.roll(beat[1], 1))
    assert synchrony_of(np.ones(29), x) == 0


def test_the_planted_factors_are_the_renderers(tmp_path):
    config = described_cache(tmp_path, 0.5, videos=40)
    render = type(config).model_validate({"results": "r", "render": {"videos": 9, "correlation": 1.0}}).render
    sound, picture = latents(render, np.array([4, 2]))
    assert sound.shape == (2, len(Factors._fields)) and np.array_equal(sound, picture)
    energy, density = sectional(render, np.array([4]), np.array([[1.0, 2.0]]))[0]
    assert 0 < abs(energy) < 1 and 0 < abs(density) < 1


def test_without_descriptors_it_says_what_to_add(tmp_path):
    config = simulate(tmp_path, videos=60)
    with pytest.raises(UserError, match="`sound_descriptors: {weights: none}` and `picture_descriptors"):
        relations.answer(config)
    few = described_cache(tmp_path / "few", 0.5, videos=30, unreadable=range(15))
    command = [sys.executable, "-m", "eval.study.relations", "--config", f"{few.results}/config.json"]
    done = execute(command)
    assert done.returncode == 2 and "15 videos have features" in done.stderr and "Traceback" not in done.stderr
