"""Features that exist already: three kinds of files, the rule for segments, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from config.cli import UserError
from config.model import load
from config.paths import Paths
from pipeline.backbones.check import check
from pipeline.backbones.feature_files.gather import rows_of_segment
from pipeline.backbones.precomputed import Precomputed
from pipeline.backbones.registry import resolve_options
from pipeline.readers import MediaError
from pipeline.weights import prepare
from tests.support.commands import execute
from tests.support.weights_fixture import config_of, get, refused

DIM = 3
OPTIONS: dict[str, Any] = {"modality": "video", "dim": DIM}
TIMED = OPTIONS | {"start": "start", "reach": 4.0}
IDS = ["c", "a", "", "b/../c", "ä"]
Writer = Callable[[Path, list[str], np.ndarray, list[float] | None], Path]


def parquet(folder: Path, ids: list[str], features: np.ndarray, starts: list[float] | None = None) -> Path:
    columns: dict[str, Any] = {"video_id": ids, "features": list(features)}
    pq.write_table(pa.table(columns | ({"start": starts} if starts else {})), folder / "f.parquet", row_group_size=2)
    return folder / "f.parquet"


def hdf5(folder: Path, ids: list[str], features: np.ndarray, starts: list[float] | None = None) -> Path:
    with h5py.File(folder / "f.h5", "w") as file:
        file["video_id"], file["features"] = ids, features
        if starts:
            file["start"] = starts
    return folder / "f.h5"


def npy(folder: Path, ids: list[str], features: np.ndarray, starts: list[float] | None = None) -> Path:
    (folder / "npy" / "start").mkdir(parents=True, exist_ok=True)
    for video_id in dict.fromkeys(ids):
        mine = [i for i, other in enumerate(ids) if other == video_id]
        array = features[mine] if starts else features[mine[0]]
        if "/" not in video_id:
            np.save(folder / "npy" / f"{video_id}.npy", array)
            np.save(folder / "npy" / "start" / f"{video_id}.npy", [starts[i] for i in mine] if starts else [])
    return folder / "npy"


WRITERS = pytest.mark.parametrize("write", [parquet, hdf5, npy])
TABLES = pytest.mark.parametrize("write", [parquet, hdf5])


def opened(folder: Path, source: Path, **options: Any) -> Precomputed:
    """Return the source as a job opens it, after `pipeline.weights` has looked at it."""
    prepare(config_of(folder / "results", "clip", source, kind="precomputed", options=options), "clip")
    weights = Paths(folder / "results").weights("clip")
    return Precomputed(weights, source, resolve_options("precomputed", options), "backbones.clip")


def fetch_error(folder: Path, source: Path | str, **options: Any) -> str:
    """Return the message with which `pipeline.weights` refuses the source."""
    with pytest.raises(UserError) as error:
        prepare(config_of(folder / "results", "clip", source, kind="precomputed", options=OPTIONS | options), "clip")
    assert not any((folder / "results" / "weights").iterdir())
    return str(error.value)


def numbers(n: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, DIM)).astype(dtype)


@WRITERS
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_row_a_video_is_the_row_of_all_its_segments(write: Writer, dtype: type, tmp_path: Path) -> None:
    features = numbers(len(IDS), dtype)
    source = opened(tmp_path, write(tmp_path, IDS, features, None), **OPTIONS)
    asked = ["ä", "none", "a", "c"]
    first, missing, *others = source.outcomes(asked, None, 2, 3.0)
    for outcome, video_id in zip([first, *others], ["ä", "a", "c"], strict=True):
        assert isinstance(outcome, np.ndarray) and outcome.dtype == np.float16
        np.testing.assert_array_equal(outcome, np.tile(features[IDS.index(video_id)].astype(np.float16), (2, 1)))
    assert isinstance(missing, MediaError) and missing.reason == "no_features" and "'none'" in missing.message


@WRITERS
def test_a_segment_gets_the_mean_of_the_rows_that_start_in_it(write: Writer, tmp_path: Path) -> None:
    ids, starts = ["a", "b", "a", "a", "a", "b"], [9.0, 0.0, 1.0, 0.0, 2.0, 7.0]
    features = numbers(6)
    source = opened(tmp_path, write(tmp_path, ids, features, starts), **TIMED)
    segments = np.array([[0.0, 3.0], [9.0, 12.5]])
    outcomes = list(source.outcomes(["b", "a"], segments, 2, 2.0))
    expected = [
        [features[1], features[1]],  # 0 s: in it; 3 s: the row before
        [features[0], features[0]],  # 9 s: in it; 12.5 s: the row 3.5 s before
    ]
    np.testing.assert_array_equal(np.array(outcomes), np.array(expected, np.float16))
    (whole,) = source.outcomes(["a"], np.array([[0.0]]), 1, 2.0)
    np.testing.assert_array_equal(whole, [features[[2, 3]].mean(axis=0, dtype=np.float64).astype(np.float16)])
    (far,) = source.outcomes(["b"], np.array([[7.0, 30.0]]), 2, 2.0)
    assert (
        isinstance(far, MediaError) and far.reason == "no_features" and "near 30.0 s (options.reach: 4 s)" in str(far)
    )


@settings(deadline=None)
@given(
    times=st.lists(st.integers(0, 40), unique=True, max_size=12).map(sorted),
    start=st.integers(0, 40),
    seconds=st.integers(1, 5),
    reach=st.integers(0, 10),
)
def test_the_rule_for_segments(times: list[int], start: int, seconds: int, reach: int) -> None:
    inside = [t for t in times if start <= t < start + seconds]
    before = [t for t in times if start - reach <= t < start][-1:]
    after = [t for t in times if start < t <= start + reach][:1]
    expected = inside or before or after
    rows = rows_of_segment(np.array(times, float), float(start), float(seconds), float(reach))
    assert [times[row] for row in rows] == expected


@WRITERS
def test_numbers_that_the_store_cannot_hold_cost_their_video_only(write: Writer, tmp_path: Path) -> None:
    features = np.ones((3, DIM), np.float32)
    features[0, 1], features[1, 2] = np.nan, 70_000
    source = opened(tmp_path, write(tmp_path, ["a", "b", "c"], features, None), **OPTIONS)
    unknown, large, good = source.outcomes(["a", "b", "c"], None, 1, 3.0)
    assert isinstance(unknown, MediaError) and unknown.reason == "bad_features" and "not finite" in str(unknown)
    assert isinstance(large, MediaError) and large.reason == "bad_features"
    assert "has 70000, but the store holds float16, at most 65504" in str(large)
    assert isinstance(good, np.ndarray)


@WRITERS
def test_features_that_would_be_stored_as_zeros_are_none(write: Writer, tmp_path: Path) -> None:
    features = np.array([[1e-9] * DIM, [0] * DIM, [1e-9, 0, 1]], np.float32)
    source = opened(tmp_path, write(tmp_path, ["a", "b", "c"], features, None), **OPTIONS)
    small, zero, good = source.outcomes(["a", "b", "c"], None, 1, 3.0)
    assert isinstance(small, MediaError) and small.reason == "bad_features"
    assert "'a' has nothing above 1e-09" in str(small) and "scale the features up" in str(small)
    assert isinstance(zero, np.ndarray) and isinstance(good, np.ndarray)


@pytest.mark.parametrize("vectors", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), DIM)])
def test_an_id_without_a_vector_costs_its_video_only(vectors: pa.DataType, tmp_path: Path) -> None:
    features = numbers(3)
    rows = pa.array([None, list(features[1]), None], vectors)
    ids = pa.array(["a", "b", None], pa.string_view() if vectors == pa.large_list(pa.float64()) else pa.string())
    pq.write_table(pa.table({"video_id": ids, "features": rows}), tmp_path / "f.parquet")
    source = opened(tmp_path, tmp_path / "f.parquet", **OPTIONS)
    empty, good, missing = source.outcomes(["a", "b", "c"], None, 1, 3.0)
    assert isinstance(empty, MediaError) and empty.reason == "bad_features" and "missing or not finite" in str(empty)
    np.testing.assert_array_equal(good, [features[1].astype(np.float16)])
    assert isinstance(missing, MediaError) and missing.reason == "no_features"


def test_ids_of_a_fixed_length_are_utf8(tmp_path: Path) -> None:
    features = numbers(2)
    for name, ids in (("good", ["ä".encode(), b"b"]), ("bad", ["ä".encode("latin-1"), b"b"])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["video_id"], file["features"] = np.array(ids), features
    source = opened(tmp_path, tmp_path / "good.h5", **OPTIONS)
    (found,) = source.outcomes(["ä"], None, 1, 3.0)
    np.testing.assert_array_equal(found, [features[0].astype(np.float16)])
    message = fetch_error(tmp_path / "other", tmp_path / "bad.h5")
    assert message.startswith("backbones.clip.options.id: bad.h5") and "not UTF-8" in message


@WRITERS
def test_the_digest_is_that_of_the_features(write: Writer, tmp_path: Path) -> None:
    keys = {"kind": "precomputed", "options": OPTIONS}
    source = write(tmp_path, IDS, numbers(5), None)
    one = get(tmp_path / "results", "clip", source, **keys)
    assert one["source"] == f"features of {source.name}" and one["random"] is False
    size = Paths(tmp_path / "results").weights("clip").stat().st_size
    assert size < 2000, "no copy of the features"
    elsewhere = source.rename(source.with_stem("moved"))
    assert get(tmp_path / "results", "clip", elsewhere, **keys)["sha256"] == one["sha256"]
    source = write(tmp_path, IDS, numbers(5) * 2, None)
    assert get(tmp_path / "results", "clip", source, **keys)["sha256"] != one["sha256"]


@WRITERS
def test_a_source_that_has_changed_since_is_refused(write: Writer, tmp_path: Path) -> None:
    source = write(tmp_path, IDS, numbers(5), None)
    opened(tmp_path, source, **OPTIONS)
    write(tmp_path, IDS, numbers(5) * 2, None)
    weights = Paths(tmp_path / "results").weights("clip")
    with pytest.raises(UserError, match=r"backbones\.clip\.weights: .*has changed since its digest"):
        changed = Precomputed(weights, source, resolve_options("precomputed", OPTIONS), "backbones.clip")
        list(changed.outcomes(["a"], None, 1, 3.0))


def test_a_file_that_has_gone_from_a_folder_is_no_missing_video(tmp_path: Path) -> None:
    source = npy(tmp_path, IDS, numbers(5))
    opener = opened(tmp_path, source, **OPTIONS)
    (source / "a.npy").unlink()
    with pytest.raises(UserError, match=r"'a\.npy' has gone since its digest"):
        list(opener.outcomes(["a"], None, 1, 3.0))


def test_an_id_never_leaves_the_folder(tmp_path: Path) -> None:
    source = npy(tmp_path, ["a"], numbers(1))
    np.save(tmp_path / "secret.npy", np.ones(DIM, np.float32))
    np.save(source / "start" / "a.npy", np.ones(DIM, np.float32))
    opener = opened(tmp_path, source, **OPTIONS)
    for video_id in ("../secret", "start/a", str(tmp_path / "secret"), "..", "a\0"):
        (outcome,) = opener.outcomes([video_id], None, 1, 3.0)
        assert isinstance(outcome, MediaError) and outcome.reason == "no_features"


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "without pickled objects" in fetch_error(tmp_path, tmp_path / "npy")


@TABLES
def test_an_id_with_two_rows_is_refused(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path, ["a", "b", "a"], numbers(3), [0.0, 1.0, 0.0])
    message = fetch_error(tmp_path, path)
    assert message.startswith("backbones.clip.options.start") and "'a' has two rows" in message
    source = opened(tmp_path, path, **TIMED)
    with pytest.raises(UserError, match="two rows of 'a' start at 0 s"):
        list(source.outcomes(["a"], np.zeros((1, 1)), 1, 3.0))


@WRITERS
def test_another_dimension_is_refused(write: Writer, tmp_path: Path) -> None:
    message = fetch_error(tmp_path, write(tmp_path, IDS, numbers(5), None), dim=4)
    assert message.startswith("backbones.clip.options.dim") and "set `dim: 3`" in message


@WRITERS
def test_other_types_are_refused(write: Writer, tmp_path: Path) -> None:
    message = fetch_error(tmp_path, write(tmp_path, IDS, np.ones((5, DIM), np.int8), None))
    assert "not" in message and "float16, float32 or float64" in message


@TABLES
@pytest.mark.parametrize("option", ["id", "features", "start"])
def test_an_unknown_name_is_named_with_those_that_are_there(write: Writer, option: str, tmp_path: Path) -> None:
    message = fetch_error(tmp_path, write(tmp_path, IDS, numbers(5), None), **{option: "embedding"})
    assert message.startswith(f"backbones.clip.options.{option}: f.") and "features, video_id" in message


def test_rows_of_several_lengths_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video_id": ["a", "b"], "features": [[1.0] * DIM, [1.0]]}), tmp_path / "f.parquet")
    source = opened(tmp_path, tmp_path / "f.parquet", **OPTIONS)
    with pytest.raises(UserError, match=r"options\.features: f\.parquet: row 1 is not a list of 3 numbers"):
        list(source.outcomes(["a", "b"], None, 1, 3.0))


def test_rows_without_their_times_are_refused(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", numbers(2))
    assert "options.start: npy: 'a.npy' has 2 rows" in fetch_error(tmp_path, tmp_path / "npy")
    assert "no folder '../npy' inside" in fetch_error(tmp_path, tmp_path / "npy", start="../npy")


def test_hdf5_in_other_files_is_refused(tmp_path: Path) -> None:
    source = hdf5(tmp_path, IDS, numbers(5))
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["video_id"] = IDS
        file["features"] = h5py.ExternalLink(source, "features")
    assert "no dataset 'features' of its own" in fetch_error(tmp_path, tmp_path / "linked.h5")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file["video_id"] = IDS
        layout = h5py.VirtualLayout((5, DIM), np.float32)
        layout[:] = h5py.VirtualSource(source, "features", (5, DIM))
        file.create_virtual_dataset("features", layout)
    assert "lies in another file" in fetch_error(tmp_path, tmp_path / "virtual.h5")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("./none.parquet", "there is no file"),
        ("features.csv", "there is no file"),
        (__file__, "is not a Parquet table"),
    ],
)
def test_another_source_is_refused(weights: str, message: str, tmp_path: Path) -> None:
    refusal = refused(tmp_path, "clip", weights, kind="precomputed", options=OPTIONS)
    assert message in refusal and "a folder of .npy files" in refusal


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_a_damaged_file_is_refused(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"f{suffix}").write_bytes(b"PAR1 or not")
    assert "cannot be read as" in fetch_error(tmp_path, tmp_path / f"f{suffix}")


@pytest.mark.parametrize(
    ("options", "weights", "message"),
    [
        ({"dim": 3}, "./f.h5", r"options\.modality: missing.*`audio` or `video`"),
        ({"modality": "picture", "dim": 3}, "./f.h5", r"options\.modality: 'picture' cannot be"),
        ({"modality": "audio"}, "./f.h5", r"options\.dim: missing"),
        ({"modality": "audio", "dim": "many"}, "./f.h5", r"options\.dim: 'many' cannot be"),
        ({"modality": "audio", "dim": 0}, "./f.h5", r"options\.dim: 0 is not between"),
        (OPTIONS | {"reach": -1.0}, "./f.h5", r"options\.reach: -1 is not between"),
        (OPTIONS, "random", r"weights: 'random' is not the path"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(options: dict[str, Any], weights: str, message: str) -> None:
    backbones = {"clip": {"kind": "precomputed", "weights": weights, "options": options}}
    config = load(
        {"results": "r", "videos": "v.csv", "backbones": backbones, "heads": {"audio": "clip", "video": "clip"}}
    )
    with pytest.raises(UserError, match=rf"backbones\.clip\.{message}"):
        check(config)


def test_the_key_says_what_changes_the_features() -> None:
    plain = resolve_options("precomputed", OPTIONS)
    assert "rule" not in Precomputed.preprocessing(plain) and Precomputed.width(plain) == DIM
    timed = resolve_options("precomputed", TIMED)
    assert Precomputed.preprocessing(timed)["reach"] == 4.0
    others = [plain, timed, timed | {"reach": 5.0}, plain | {"features": "x"}, plain | {"modality": "audio"}]
    assert len({str(Precomputed.preprocessing(options)) for options in others}) == len(others)


def test_the_weights_file_has_digests_only(tmp_path: Path) -> None:
    opened(tmp_path, npy(tmp_path, ["a"], numbers(1)), **OPTIONS)
    tensors = load_file(Paths(tmp_path / "results").weights("clip"))
    assert tensors["names"].tobytes() == b"a.npy" and tensors["sha256"].shape == (1, 32)


def test_the_snakefile_does_not_import_what_reads_the_source() -> None:
    script = (
        "import sys; from pipeline.backbones.precomputed import Precomputed\n"
        "print(sorted({'pyarrow', 'h5py', 'torch'} & set(sys.modules)))"
    )
    assert execute([sys.executable, "-c", script]).stdout.strip() == "[]"
