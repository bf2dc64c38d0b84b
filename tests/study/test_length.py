"""Segment length and number: variants of the cache, draws of segments, planted features and the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from config.cli import UserError
from config.digests import write_digest
from config.model import Config, load, read
from config.paths import Paths
from config.pipeline import Render
from config.study.length import Length, Variant
from data.manifest import read_manifest, write_manifest
from data.segments import segment_starts
from eval.probe.metrics import resamples
from pipeline.records import read_plan
from study.groups import folds
from study.length import measure as study_length
from study.length import train as study_length_train
from study.length.config import update_configs, variant_config, videos_of, write_config
from study.length.linear import fit_linear
from study.length.plots import plots
from study.length.probing import factors, genres, predicted, score
from study.length.tables import Key, Measured, compared, differences
from study.length.train import drawn, embeddings, load_variants, train, trained_path
from study.length.variant import chosen, prepare
from tests.support.simulate import simulate

pytestmark = pytest.mark.workflow

VARIANTS = [{"seconds": 3, "count": 6}, {"seconds": 10, "count": 2}]
SETTINGS: dict[str, Any] = {
    "seeds": [0, 1],
    "length": {"videos": 100, "variants": VARIANTS, "counts": [1, 2, 6], "totals": [19.0], "components": 12},
}


def extracted(results: Path, correlations: tuple[float, ...], study: dict[str, Any] = SETTINGS) -> Config:
    """A main cache and the variants, as if extracted, with planted factors of these correlations."""
    config = simulate(results, videos=100, segments=2, study=study, eval={"bootstrap": 200})
    table = read_manifest(Paths(results).manifest)
    genre = pa.array(["rock" if draw < 0.5 else "pop" for draw in np.random.default_rng(0).random(100)])
    write_manifest(Paths(results), table.set_column(table.column_names.index("genre"), "genre", genre))
    for variant, correlation in zip(config.study.length.variants, correlations, strict=True):
        folder = Paths(results).study_variant(variant.name)
        simulate(folder, correlation, videos=100, segments=variant.count, unreadable=[3] if variant.count == 2 else [])
    return config


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = extracted(tmp_path_factory.mktemp("planted"), (0.3, 1.0))
    train(config)
    return config


def test_a_variant_is_a_results_folder_of_its_own(tmp_path: Path) -> None:
    backbones = {"musicnn": {"weights": "wheel"}, "r2plus1d": {"weights": "random"}, "other": {"weights": "random"}}
    study = {"length": {"videos": 30, "variants": VARIANTS}}
    config = simulate(tmp_path, videos=40, study=study, backbones=backbones)
    paths = Paths(tmp_path)
    for name in ("musicnn", "r2plus1d"):
        paths.weights(name).parent.mkdir(exist_ok=True)
        paths.weights(name).write_bytes(b"weights")
        record = {"backbone": name, "weights": "wheel", "source": "s", "sha256": "0" * 64, "random": name == "r2plus1d"}
        paths.weights_record(name).write_text(json.dumps(record))
    written = load(json.loads(prepare(config, "10s_2").read_text()))
    variant_paths = written.paths
    assert variant_paths.results == tmp_path / "study" / "length" / "10s_2"
    assert (written.segments.seconds, written.segments.count, written.segments.window) == (10, 2, 10)
    assert written.heads == config.heads and written.render is None
    assert written.backbones == {name: config.backbones[name] for name in ("musicnn", "r2plus1d")}  # those of the heads
    videos = read_manifest(variant_paths.manifest)["video_id"].to_pylist()
    assert len(videos) == 30 and set(videos) < set(read_manifest(paths.manifest)["video_id"].to_pylist())
    assert variant_paths.weights("musicnn").read_bytes() == b"weights"
    plan = read_plan(variant_paths)
    assert plan.segments.seconds == 10 and plan.backbones["r2plus1d"].random_weights is True
    with pytest.raises(UserError, match="study.length.variants has 3s_6, 10s_2"):
        variant_config(config, "4s_1")


def test_settings_of_decoding_reach_variants_that_are_prepared(tmp_path: Path) -> None:
    """A job that stopped does what the configuration says now, without being prepared again."""
    own = {"audio": "other", "video": "r2plus1d"}
    config = simulate(
        tmp_path,
        videos=20,
        study={"length": {"variants": VARIANTS}},
        backbones={
            "musicnn": {"weights": "random"},
            "r2plus1d": {"weights": "random"},
            "other": {"kind": "musicnn", "weights": "random"},
        },
        heads={"experiments": {"default": {}, "own": own}},
    )
    write_config(variant_config(config, "3s_6"))
    changed = load(config.model_dump(mode="json") | {"decoding": {"deadline_seconds": 77}})
    update_configs(changed)
    variant = read(Paths(config.paths.study_variant("3s_6")).config)
    assert variant.decoding.deadline_seconds == 77 and list(variant.heads.experiments) == ["default"]
    assert not config.paths.study_variant("10s_2").exists(), "a folder of a variant that nobody has asked for"


def test_variants_are_prepared_again_for_another_table(tmp_path: Path) -> None:
    """Other paths and offsets of audio are not in manifest.json, which the rule watches besides."""
    config = load({"results": str(tmp_path), "videos": "v.csv", "study": {"length": {"videos": 30}}})
    assert videos_of(config) == 30
    note = config.paths.digest_of("table")
    write_digest(note, "as it was")
    assert [videos_of(config), videos_of(config)] == [30, 30], "the parameter of earlier versions"
    write_digest(note, "with other offsets")
    count, digest = changed = videos_of(config)
    assert count == 30 and digest and videos_of(config) == changed
    write_digest(note, "as it was")
    assert videos_of(config) == 30


def test_the_same_videos_are_chosen_whatever_their_order(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=50)
    table = read_manifest(config.paths.manifest)
    names = set(chosen(table, 20)["video_id"].to_pylist())
    assert len(names) == 20 and names == set(chosen(table.take(list(range(49, -1, -1))), 20)["video_id"].to_pylist())
    assert names != set(table["video_id"].to_pylist()[:20])


def test_folds_are_of_whole_artists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = extracted(tmp_path, (0.3, 1.0))
    for variant in config.study.length.variants:
        paths = Paths(config.paths.study_variant(variant.name))
        table = read_manifest(paths.manifest)
        artist = pa.array([f"Artist {row % 9}" for row in range(table.num_rows)])
        write_manifest(paths, table.set_column(table.column_names.index("artist"), "artist", artist))
    variants = load_variants(config)
    of_name = [int(name.removeprefix("v")) % 9 for name in variants.names]
    assert len(set(zip(variants.groups.tolist(), of_name, strict=True))) == 9 == variants.groups.max() + 1
    used = []

    def noting(*arguments: Any) -> Any:
        used.append(arguments[3])
        return embeddings(*arguments)

    monkeypatch.setattr(study_length_train, "embeddings", noting)
    train(config)
    assert used and all(len(set(fold[variants.groups == group])) == 1 for fold in used for group in range(9))


def test_drawn_segments_are_spread_and_as_if_fewer_had_been_extracted() -> None:
    for total, count in ((12, 10), (12, 3), (12, 12), (6, 1)):
        segments = drawn(4000, total, count, seed=1)
        assert segments.shape == (4000, count) and (np.diff(segments, axis=1) > 0).all()
        assert segments.min() >= 0 and segments.max() < total
        share = np.bincount(segments.ravel(), minlength=total) / 4000
        np.testing.assert_allclose(share, count / total, atol=0.04)
    # Where the first of three segments lies: extracted so, and drawn of twelve.
    spec = {"seconds": 3.0, "window": 3.0}
    few, many = (Variant(seconds=3, count=n) for n in (3, 12))
    direct, indirect = [], []
    for video, row in enumerate(drawn(4000, 12, 3, seed=2)):
        for variant, first_starts, index in ((few, direct, 0), (many, indirect, row[0])):
            settings = load({"results": "r", "videos": "v", "segments": spec | {"count": variant.count}}).segments
            starts = segment_starts(f"v{video}", 240.0, settings)
            assert starts is not None
            first_starts.append(starts[index])
    np.testing.assert_allclose(
        np.percentile(direct, [5, 25, 50, 75, 95]), np.percentile(indirect, [5, 25, 50, 75, 95]), atol=3.0
    )


def test_numbers_that_give_equal_seconds() -> None:
    settings = Length(totals=[10, 15, 30], counts=[1, 3, 6, 12])
    three, five, ten = (Variant(seconds=s, count=n) for s, n in ((3, 12), (5, 6), (10, 3)))
    assert [settings.count_for(t, v) for v in (three, five, ten) for t in (10, 15, 30)] == [
        *(3, 5, 10), *(2, 3, 6), *(1, None, 3),
    ]  # fmt: skip
    assert settings.counts_of(three) == [1, 3, 5, 6, 10, 12] and settings.counts_of(ten) == [1, 3]
    with pytest.raises(ValueError, match="same seconds and start"):
        Length(variants=[three, Variant(seconds=3, count=2)])


def test_canonical_correlations_are_found() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((4000, 2))
    views = [np.c_[shared * [1, 1], rng.standard_normal((4000, 4))] @ rng.standard_normal((6, 6)) for _ in range(2)]
    fitted = fit_linear(views[0], views[1], 6, seed=0)
    assert fitted.correlations[:2] == pytest.approx([1, 1], abs=1e-6) and fitted.correlations[2] < 0.1
    a, v = (fitted.embed(number, x) for number, x in enumerate(views))
    np.testing.assert_allclose(a[:, :2], v[:, :2], atol=1e-3)


def test_only_videos_that_all_lengths_could_read_are_compared(planted: Config) -> None:
    variants = load_variants(planted)
    assert len(variants.names) == 99 and "v0003" not in variants.names
    assert {name: x.shape[:2] for name, x in variants.audio.items()} == {"3s_6": (99, 6), "10s_2": (99, 2)}
    assert sorted(np.bincount(folds(variants.groups, 4, 0))) == [24, 25, 25, 25]


def test_a_planted_difference_is_shown(planted: Config, tmp_path: Path) -> None:
    answer = study_length.answer(planted)
    rank = {(r["seconds"], r["count"]): r for r in answer.tables["retrieval"] if r["measure"] == "mean rank"}
    assert rank[10, 2]["high"] < rank[3, 2]["low"] < rank[3, 2]["chance"] == 13
    equal = {r["count"]: r for r in answer.tables["retrieval"] if r["measure"] == "mean rank, equal training"}
    assert equal[2]["value"] == rank[10, 2]["value"]  # those heads learn from two segments a video either way
    assert equal[6]["value"] != rank[3, 6]["value"]
    test = next(r for r in answer.tables["differences"] if r["comparison"] == "equal number" and r["at"] == 2)
    assert (
        test["shown"]
        and test["high"] < 0
        and test["value"] == pytest.approx(rank[10, 2]["value"] - rank[3, 2]["value"])
    )
    for number in (0, 1):
        assert "2 × 10 s rank the positive better than 6 × 3 s" in answer.findings[number].claim
    assert "2 × 10 s rank the positive better than 2 × 3 s" in answer.findings[2].claim
    assert "(6 × 3 s instead of 1 × 3 s)" in answer.findings[3].claim and "shown" in answer.findings[3].sure
    assert answer.random_weights == ["r2plus1d"]  # as the planted cache says of itself
    # Genres were drawn at random: nothing predicts them.
    genre_rows = [r for r in answer.tables["reading"] if r["measure"] == "musicnn: genre, ROC-AUC"]
    assert len(genre_rows) == 5 and all(r["low"] < 0.55 and r["value"] < 0.65 for r in genre_rows)
    assert sum(f.claim.startswith("Linear probe") for f in answer.findings) == 2
    drawn_plots = plots(answer, tmp_path)
    names = ("rank", "rank-equal", "reading-0", "reading-1")
    assert [p.name for p in drawn_plots] == [f"study-length-{name}" for name in names]
    assert "2 of 10 s" in drawn_plots[0].alt


def test_no_difference_is_shown_where_none_is(tmp_path: Path) -> None:
    config = extracted(tmp_path, (0.0, 0.0))
    train(config)
    answer = study_length.answer(config)
    assert not any(r["shown"] for r in answer.tables["differences"])
    assert "no difference between the lengths is shown" in answer.findings[0].claim
    for r in answer.tables["retrieval"]:
        if r["measure"] == "mean rank":
            assert r["low"] - 1 < r["chance"] < r["high"] + 1


def test_starts_at_keyframes_are_compared_with_random_ones_of_their_length(tmp_path: Path) -> None:
    keyframes = {"seconds": 3, "count": 6, "start": "keyframe"}
    study = SETTINGS | {"length": SETTINGS["length"] | {"variants": [*VARIANTS, keyframes]}}
    config = extracted(tmp_path, (0.2, 0.2, 1.0), study)
    settings = config.study.length
    assert [v.name for v in settings.variants] == ["3s_6", "10s_2", "3s_6_keyframe"]
    assert [v.name for v in settings.lengths] == ["3s_6", "10s_2"]
    assert variant_config(config, "3s_6_keyframe").segments.start == "keyframe"
    assert variant_config(config, "3s_6").segments.start == "random"
    others = [pair for pair in compared(settings) if pair[0] != "starts"]
    assert others == compared(settings.model_copy(update={"variants": settings.variants[:2]}))
    train(config)
    answer = study_length.answer(config)
    starts = [r for r in answer.tables["differences"] if r["comparison"] == "starts" and r["measure"] == "mean rank"]
    assert [(r["at"], r["one"], r["other"]) for r in starts] == [
        (n, f"{n} × 3 s", f"{n} × 3 s at keyframes") for n in (1, 2, 6)
    ]
    assert all(r["shown"] and r["value"] < 0 for r in starts)
    claim = next(f.claim for f in answer.findings if f.claim.startswith("Where segments start"))
    assert "differences are shown" in claim and "6 × 3 s at keyframes instead of 6 × 3 s: mean rank, −" in claim
    assert "at keyframes" in plots(answer, tmp_path)[0].alt
    with pytest.raises(ValueError, match="same seconds and start"):
        Length(variants=[*settings.variants, Variant(seconds=3, count=2, start="keyframe")])


def test_of_one_length_only_the_starts_are_compared(tmp_path: Path) -> None:
    variants = [VARIANTS[0], {"seconds": 3, "count": 6, "start": "keyframe"}]
    config = extracted(tmp_path, (0.2, 1.0), SETTINGS | {"length": SETTINGS["length"] | {"variants": variants}})
    train(config)
    answer = study_length.answer(config)
    begins = [finding.claim.partition(":")[0] for finding in answer.findings]
    assert begins == ["More segments of one length", "Where segments start"]
    assert plots(answer, tmp_path)


def test_variants_are_known_to_rules_as_before_they_could_start_elsewhere() -> None:
    assert Variant(seconds=3, count=12).model_dump() == {"seconds": 3.0, "count": 12}
    named = Variant(seconds=3, count=12, start="random")
    assert named.model_dump()["start"] == "random" and named.name == "3s_12_random"


def test_finished_variants_are_kept(planted: Config) -> None:
    first, second = (trained_path(planted, v) for v in planted.study.length.variants)
    stamp = first.stat().st_mtime_ns
    second.unlink()
    train(planted)
    assert first.stat().st_mtime_ns == stamp and second.exists()


def test_embeddings_of_other_features_are_refused_and_made_again(tmp_path: Path) -> None:
    config = extracted(tmp_path, (1.0, 1.0))
    train(config)
    # Other features under the same keys, as after `pipeline.retry --videos`.
    simulate(Paths(tmp_path).study_variant("10s_2"), videos=100, segments=2, unreadable=[3], seed=1)
    with pytest.raises(UserError, match=r"10s_2\.safetensors is of other features"):
        study_length.answer(config)
    train(config)
    study_length.answer(config)


def test_readings_recover_what_was_planted() -> None:
    names = [f"song{i:05d}" for i in range(150)]
    target = factors(Render(videos=150), names, "audio")
    assert target.values.shape == (150, 8)
    rng, fold = np.random.default_rng(0), folds(np.arange(150), 5, 0)
    features = target.values @ rng.standard_normal((8, 40)) + 0.1 * rng.standard_normal((150, 40))
    times = resamples(150, np.arange(150), 100, 0)
    assert score(predicted(features, target, fold), target, times).min() > 0.9
    assert abs(score(predicted(rng.standard_normal((150, 40)), target, fold), target, times).mean()) < 0.15
    labels: list[str | None] = [("a", "b", "c")[i % 3] if i else None for i in range(150)]
    genre = genres(labels, 20)
    assert genre is not None and genre.values.shape == (150, 3) and np.isnan(genre.values[0]).all()
    known = np.nan_to_num(genre.values) @ rng.standard_normal((3, 40)) + 0.1 * rng.standard_normal((150, 40))
    assert score(predicted(known, genre, fold), genre, times).min() > 0.95
    assert genres(labels, 60) is None


def test_differences_are_corrected_for_their_number() -> None:
    settings = Length(variants=[Variant(seconds=3, count=1), Variant(seconds=5, count=1)], counts=[1], totals=[])
    rng = np.random.default_rng(0)
    base = Measured([5.0, 5.0], 5 + 0.1 * rng.standard_normal(500), 200, 10)
    better = Measured([4.44, 4.46], 4.45 + 0.1 * rng.standard_normal(500), 200, 10)
    same = {f"n{i}": {Key(3.0, 1): base, Key(5.0, 1): base} for i in range(40)}
    alone = differences(settings, {"x": {Key(3.0, 1): base, Key(5.0, 1): better}})
    assert [r["at"] for r in alone] == [1] and len(compared(settings)) == 1 and alone[0]["shown"]
    # Resamples say 0.14; four folds that share videos make it wider.
    assert alone[0]["high"] - alone[0]["low"] == pytest.approx(2 * 1.96 * 0.1 * (2 * (1 + 4 / 3)) ** 0.5, rel=0.1)
    among = differences(settings, {"x": {Key(3.0, 1): base, Key(5.0, 1): better}, **same})
    assert alone[0]["p"] == among[0]["p"] < 0.05 < among[0]["q"] and not among[0]["shown"]
