"""The part `relations` from a cache to the answer, its plots and its text, on descriptors with planted relations."""

import json
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from config.cli import UserError
from config.model import load
from data.manifest import read_manifest, write_manifest
from data.render.latents import Factors
from heads.embed import embed
from heads.train import train
from pipeline.backbones.descriptors import DESCRIPTORS, WIDTHS, columns
from pipeline.features import open_features
from pipeline.shards import Shards
from study.relations import measure as relations
from study.relations import ridge_tables as reading
from study.relations.descriptors import AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS, describe, synchrony_of
from study.relations.ground_truth import latents, section_offsets
from study.relations.plots import plots
from tests.support.commands import execute
from tests.support.simulate import described_cache, simulate

pytestmark = pytest.mark.workflow


def test_from_the_cache_to_the_page(tmp_path):
    config = described_cache(tmp_path, 1.0, unreadable=[3], damaged=[(5, 0), (6, 0), (6, 1), (6, 2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        answer = relations.answer(config, threads=2)
    tables = answer.tables
    assert len(tables["descriptors"]) == len(DESCRIPTORS[AUDIO_DESCRIPTORS]) * len(DESCRIPTORS[VIDEO_DESCRIPTORS])
    assert tables["descriptors"][0]["videos"] == 238  # video 3 has no frames, video 6 no undamaged segment
    assert sum(row["significant"] for row in tables["descriptors"]) > 10
    assert {row["space"] for row in tables["readable"]} == {AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS}
    assert all(row["videos"] == 150 and row["r2"] <= 1 for row in tables["readable"])
    assert tables["spaces"][0]["cka"] > 2 * tables["spaces"][0]["cka_chance_high"]
    assert "planted" not in tables and answer.random_weights == [] and "baseline" in answer.limits[-1]
    json.dumps(answer.tables, allow_nan=False)
    drawn = plots(answer, tmp_path / "plots")
    names = {f"study-relations-{name}" for name in ("descriptors", "spaces", "canonical", "readable")}
    assert {plot.name for plot in drawn} == names and all((tmp_path / "plots" / f"{n}.svg").exists() for n in names)
    assert len(answer.findings) == 5 and all(f.claim.endswith(".") and f.sure for f in answer.findings)


def with_heads(folder, test):
    """Descriptors with nothing in common, and a head."""
    config = simulate(
        folder,
        0.0,
        videos=400,
        dims=(WIDTHS[AUDIO_DESCRIPTORS], WIDTHS[VIDEO_DESCRIPTORS]),
        names=(AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS),
        backbones={AUDIO_DESCRIPTORS: {"weights": "none"}, VIDEO_DESCRIPTORS: {"weights": "none"}},
        heads={
            "audio": AUDIO_DESCRIPTORS,
            "video": VIDEO_DESCRIPTORS,
            "experiments": {"head": {"max_epochs": 1, "batch": 100}},
        },
        splits={"train": 0.9 - test, "validation": 0.1, "test": test},
        eval={"bootstrap": 100},
        study={"relations": {"permutations": 19, "null_seeds": 2}},
    )
    torch.set_num_threads(1)  # tensors this small are not worth a second
    train(config, "head")
    embed(config, "head")
    return config


def test_heads_are_read_on_videos_that_they_have_not_seen(tmp_path, monkeypatch):
    """A head that memorised its training videos predicts their frames, though not those of other videos."""
    config = with_heads(tmp_path, 0.3)
    features = open_features(config.results)
    tested, video = features.rows("test"), features.numpy(VIDEO_DESCRIPTORS).astype(np.float32)
    load_embeddings = reading.load_embeddings

    def memorised(run, rows, keys):
        embeddings = load_embeddings(run, rows, keys)
        noise = np.random.default_rng(0).standard_normal(video.shape).astype(np.float32)
        noise[np.setdiff1d(np.arange(400), tested)] = video[np.setdiff1d(np.arange(400), tested)]
        return replace(embeddings, audio=noise[rows])

    monkeypatch.setattr(reading, "load_embeddings", memorised)
    answer = relations.answer(config)
    rows = {(r["space"], r["descriptor"]): r for r in answer.tables["readable"]}
    memorised_rows = [rows["head, audio", descriptor.name] for descriptor in DESCRIPTORS[VIDEO_DESCRIPTORS]]
    assert all(row["videos"] == row["artists"] == len(tested) for row in memorised_rows)
    assert rows[AUDIO_DESCRIPTORS, "tempo"]["videos"] == 400
    assert rows[f"{AUDIO_DESCRIPTORS}, test videos", "tempo"]["videos"] == len(tested)
    assert np.mean([row["r2"] for row in memorised_rows]) < 0.02 and sum(row["low"] > 0 for row in memorised_rows) <= 1
    assert f"{len(tested)} test videos of {len(tested)} artists, on which no head" in answer.findings[-2].sure


def test_experiments_are_read_on_backbones_of_their_own(monkeypatch):
    own = {"video": "efficientnet_lite0"}
    backbones = {name: {"weights": "random"} for name in ("r2plus1d", "efficientnet_lite0")}
    backbones["musicnn"] = {"weights": "wheel"}
    config = load(
        {"results": "r", "videos": "v", "backbones": backbones, "heads": {"experiments": {"head": {}, "own": own}}}
    )
    unread = np.arange(60) % 4 > 0  # by the backbone of `own`, which is none of the heads'
    rng = np.random.default_rng(0)
    features = SimpleNamespace(
        key=str.upper,
        valid=lambda *names: unread | ("efficientnet_lite0" not in names),
        numpy=lambda name, rows: rng.standard_normal((len(rows), 2, 4)).astype(np.float16),
    )

    def of_own_keys(run, rows, keys):
        video = {"head": "r2plus1d", "own": "efficientnet_lite0"}[run.experiment]
        assert keys == {"musicnn": "MUSICNN", video: video.upper()} and features.valid(*keys)[rows].all()
        audio, video = rng.standard_normal((2, len(rows), 2, 4))
        return SimpleNamespace(audio=audio, video=video)

    monkeypatch.setattr(reading, "trained", lambda config: ["head", "own"])
    monkeypatch.setattr(reading, "load_embeddings", of_own_keys)
    tested = np.arange(60) < 40
    rows = reading.table(config, features, np.arange(60), {"tempo": rng.standard_normal(60)}, np.arange(60), tested)
    assert {row["space"]: row["videos"] for row in rows} == {
        **{"musicnn": 60, "r2plus1d": 60, "musicnn, test videos": 40, "r2plus1d, test videos": 40},
        **{"head, audio": 40, "head, video": 40, "own, audio": 30, "own, video": 30},
    }


def test_too_few_test_videos_are_reported_and_not_used(tmp_path):
    answer = relations.answer(with_heads(tmp_path, 0.03))
    assert {row["space"] for row in answer.tables["readable"]} == {AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS}
    assert "that needs test videos, which the heads have not seen, and they are fewer than 20" in answer.limits[-1]


def test_too_few_draws_are_refused(tmp_path):
    config = described_cache(tmp_path, 0.0, videos=60, permutations=5)
    with pytest.raises(UserError, match=r"study.relations.permutations: 5 draws .* 19 are needed"):
        relations.answer(config)


def test_at_correlation_0_nothing_goes_together(tmp_path):
    answer = relations.answer(described_cache(tmp_path, 0.0))
    assert not any(row["significant"] for row in answer.tables["descriptors"])
    assert answer.findings[0].claim.startswith("0 of 70 pairs of descriptors go together, 0 also within genres.")
    assert "more than by chance is not shown" in answer.findings[2].claim
    assert "not shown to be more alike than chance" in answer.findings[-1].claim


def test_a_videos_descriptors_are_means_and_mean_directions(tmp_path):
    config = described_cache(tmp_path, 0.5, damaged=[(5, 1)], videos=100)
    features, rows = open_features(config.results), np.arange(100)
    arrays = [Shards.open(features.folder / name) for name in (AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS)]
    described = describe(*arrays, rows, 2, 30, scheduler="synchronous")
    audio, video = (array.read().astype(np.float64) for array in arrays)
    slices = columns(AUDIO_DESCRIPTORS)
    expected = audio[..., 0].mean(axis=1)
    expected[5] = audio[5, [0, 2], 0].mean()  # a segment that is damaged in one modality is used in neither
    np.testing.assert_allclose(described.audio["tempo"], expected, rtol=1e-5)
    keys = audio[7, :, slices["key"]].T
    angle = np.angle(keys[0].mean() + 1j * keys[1].mean())
    np.testing.assert_allclose(described.audio["key"][7], [np.cos(angle), np.sin(angle)], atol=1e-5)
    onset, change = audio[..., slices["onset"]][9, :, :29], video[..., columns(VIDEO_DESCRIPTORS)["change"]][9, :, :29]
    assert described.synchrony[0, 9] == pytest.approx(synchrony_of(onset, change).mean(), abs=1e-4)
    assert described.synchrony.shape == (3, 100) and not np.allclose(described.synchrony[0], described.synchrony[1])


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
    audio, video = latents(render, np.array([4, 2]))
    assert audio.shape == (2, len(Factors._fields)) and np.array_equal(audio, video)
    energy, density = section_offsets(render, np.array([4]), np.array([[1.0, 2.0]]))[0]
    assert 0 < abs(energy) < 1 and 0 < abs(density) < 1


def test_whole_artists_are_what_is_counted(tmp_path):
    config = described_cache(tmp_path, 0.5, videos=60)
    table = read_manifest(config.paths.manifest)
    artist = pa.array([f"Artist {row % 2}" for row in range(table.num_rows)])
    write_manifest(config.paths, table.set_column(table.column_names.index("artist"), "artist", artist))
    with pytest.raises(UserError, match="60 videos of 2 artists have descriptors"):
        relations.answer(config)


def test_without_descriptors_it_says_what_to_add(tmp_path):
    config = simulate(tmp_path, videos=60)
    with pytest.raises(UserError, match="`sound_descriptors: {weights: none}` and `picture_descriptors"):
        relations.answer(config)
    few = described_cache(tmp_path / "few", 0.5, videos=30, unreadable=range(15))
    command = [sys.executable, "-m", "study.relations.measure", "--config", f"{few.results}/config.json"]
    done = execute(command)
    assert done.returncode == 2 and "15 videos have features" in done.stderr and "Traceback" not in done.stderr
