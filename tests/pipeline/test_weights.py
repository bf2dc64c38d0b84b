"""Fetching, checking and converting weights: what is written, what is refused, and that nothing is substituted."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from config.cli import UserError
from config.files import write_json
from config.paths import Paths
from pipeline.backbones import graphdef, musicnn_weights
from pipeline.backbones.musicnn_weights import VARIABLES, affine, random_variables, trained_on_msd
from pipeline.weights import digest, prepare
from pipeline.weights_tf import read_checkpoint
from tests.support.commands import execute
from tests.support.weights_fixture import config_of, get, musicnn_wheel, refused

MUSICNN_SHA256 = "46da3750e6a46a2cf9612a119a77efb6f738adfd7df59d8f8fd27c2b3a8803f9"
MTT_SHA256 = "6090a24be11c20760da7a48a09b105d1daead51760983cf3dfb75286e0d8ad42"


@pytest.fixture
def index(monkeypatch):
    """A package index that has the wheel: pip is asked once a test session, not in every test."""
    monkeypatch.setattr(musicnn_weights, "download", lambda *arguments: musicnn_wheel())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The wheel's MSD_musicnn checkpoint, unpacked; MTT_musicnn lies beside it."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(musicnn_wheel()) as archive:
        archive.extractall(folder, [m for m in archive.namelist() if "_musicnn" in m])
    return folder / "musicnn" / "MSD_musicnn"


# The digest


arrays = st.dictionaries(
    st.text(min_size=1, max_size=5),
    st.tuples(st.sampled_from(["<f4", "<f8", "|u1", "<i4"]), st.lists(st.integers(1, 3), max_size=3)),
    min_size=1,
    max_size=4,
).map(lambda made: {name: np.arange(np.prod(shape), dtype=kind).reshape(shape) for name, (kind, shape) in made.items()})


@given(arrays, st.randoms())
def test_digest_depends_on_the_tensors_alone(tensors, random):
    names = list(tensors)
    random.shuffle(names)
    again = {name: np.asarray(tensors[name], order="F").astype(tensors[name].dtype.newbyteorder(">")) for name in names}
    assert digest(again) == digest(tensors)


@given(arrays, st.data())
def test_digest_sees_every_change(tensors, data):
    name = data.draw(st.sampled_from(sorted(tensors)))
    array, others = tensors[name], {k: v for k, v in tensors.items() if k != name}
    changes = {
        "value": others | {name: array + np.ones((), array.dtype)},
        "shape": others | {name: array[None]},
        "type": others | {name: array.view("<u4" if array.itemsize == 4 else "<u8" if array.itemsize == 8 else "|i1")},
        "name": others | {name + "'''": array},
        "absence": others,
    }
    assert len({digest(tensors), *map(digest, changes.values())}) == 1 + len(changes)


# MusicNN


def test_the_wheel_is_converted(tmp_path, index):
    record = get(tmp_path, "musicnn", "wheel")
    assert record["sha256"] == MUSICNN_SHA256 and record["random"] is False and "seed" not in record
    assert "musicnn==0.1.0" in record["source"]
    tensors = load_file(Paths(tmp_path).weights("musicnn"))
    assert len(tensors) == 64 and sum(t.nbytes for t in tensors.values()) == 3_168_316
    path = Paths(tmp_path).weights("musicnn")
    assert path.stat().st_mode == Paths(tmp_path).weights_record("musicnn").stat().st_mode


def test_every_local_form_is_the_same_weights(tmp_path, checkpoint, index):
    get(tmp_path / "0", "musicnn", "wheel")
    forms = [musicnn_wheel(), checkpoint, f"{checkpoint}/", Paths(tmp_path / "0").weights("musicnn")]
    for i, form in enumerate(forms):
        record = get(tmp_path / str(i + 1), "musicnn", form)
        assert record["sha256"] == MUSICNN_SHA256 and record["weights"] is None
        assert str(tmp_path) not in json.dumps(record), "a record must not depend on where the file lay"
    assert "published MSD_musicnn" in get(tmp_path / "9", "musicnn", checkpoint)["source"]


def test_the_wheels_other_checkpoint(tmp_path, checkpoint, index):
    record = get(tmp_path / "0", "musicnn", "wheel-mtt")
    assert record["sha256"] == MTT_SHA256 and record["weights"] == "wheel-mtt"
    assert record["source"] == "PyPI wheel musicnn==0.1.0, checkpoint MTT_musicnn"
    local = get(tmp_path / "1", "musicnn", checkpoint.with_name("MTT_musicnn"))
    assert local["sha256"] == MTT_SHA256 and "the published MTT_musicnn" in local["source"]
    # Under another name the array is another one, and the weights in place are not taken for the other's.
    assert get(tmp_path / "0", "musicnn", "wheel")["sha256"] == MUSICNN_SHA256


def test_which_weights_have_seen_the_million_song_dataset(tmp_path, checkpoint, index, monkeypatch):
    graph = graph_of(random_variables(0))
    (tmp_path / "msd.pb").write_bytes(graph)
    essentia = {"options": {"engine": "essentia"}}
    assert trained_on_msd(get(tmp_path / "0", "musicnn", "wheel"))
    assert trained_on_msd(get(tmp_path / "1", "musicnn", checkpoint))
    copy = shutil.copy(Paths(tmp_path / "0").weights("musicnn"), tmp_path / "mine.safetensors")
    assert trained_on_msd(get(tmp_path / "2", "musicnn", copy))
    assert not trained_on_msd(get(tmp_path / "3", "musicnn", "wheel-mtt"))
    assert not trained_on_msd(get(tmp_path / "4", "musicnn", "random"))
    assert not trained_on_msd(get(tmp_path / "5", "musicnn", tmp_path / "msd.pb", **essentia))
    monkeypatch.setattr(musicnn_weights, "MTG_SHA256", hashlib.sha256(graph).hexdigest())
    assert trained_on_msd(get(tmp_path / "6", "musicnn", tmp_path / "msd.pb", **essentia))


def test_what_is_there_is_kept(tmp_path, index, monkeypatch):
    first = get(tmp_path, "musicnn", "wheel")
    before = Paths(tmp_path).weights("musicnn").stat().st_mtime_ns
    monkeypatch.setattr(musicnn_weights, "download", lambda *arguments: pytest.fail("fetched again"))
    Paths(tmp_path).weights_record("musicnn").unlink()
    assert get(tmp_path, "musicnn", "wheel") == first
    assert Paths(tmp_path).weights("musicnn").stat().st_mtime_ns == before
    assert get(tmp_path, "musicnn", "random")["random"] is True


def test_what_is_there_is_not_kept_if_it_is_damaged(tmp_path, index):
    record = get(tmp_path, "musicnn", "wheel")
    path = Paths(tmp_path).weights("musicnn")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert get(tmp_path, "musicnn", "wheel") == record


def test_an_index_without_the_wheel(tmp_path, monkeypatch):
    output = "ERROR: No matching distribution found for musicnn==0.1.0"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=1, stderr=output))
    message = refused(tmp_path, "musicnn", "wheel")
    assert output in message and "local file" in message and "weights: random" in message


def test_a_failed_change_of_weights_leaves_no_record_of_the_old_ones(tmp_path, index):
    get(tmp_path, "musicnn", "wheel")
    with pytest.raises(UserError):
        prepare(config_of(tmp_path, "musicnn", "./missing.safetensors"), "musicnn")
    assert not Paths(tmp_path).weights_record("musicnn").exists()


def test_a_wheel_that_is_not_the_published_one(tmp_path):
    (tmp_path / "musicnn-0.1.0-py3-none-any.whl").write_bytes(b"PK")
    message = refused(tmp_path / "r", "musicnn", tmp_path / "musicnn-0.1.0-py3-none-any.whl")
    assert "sha256" in message and "musicnn-0.1.0-py3-none-any.whl" in message


def test_a_torn_checkpoint(tmp_path, checkpoint):
    shutil.copy(checkpoint / ".index", tmp_path / "torn.index")
    data = (checkpoint / ".data-00000-of-00001").read_bytes()
    (tmp_path / "torn.data-00000-of-00001").write_bytes(data[: len(data) // 2])
    assert "too short for '" in refused(tmp_path / "r", "musicnn", tmp_path / "torn")
    (tmp_path / "torn.data-00000-of-00001").unlink()
    assert "torn.data-00000-of-00001 is missing" in refused(tmp_path / "r", "musicnn", tmp_path / "torn.index")


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 4947), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_index_is_a_value_error_and_nothing_else(checkpoint, tmp_path_factory, position, value, cut):
    folder = tmp_path_factory.mktemp("damaged")
    index = bytearray((checkpoint / ".index").read_bytes())
    index[position] = value
    (folder / "x.index").write_bytes(index[:position] if cut else index)
    (folder / "x.data-00000-of-00001").symlink_to(checkpoint / ".data-00000-of-00001")
    try:
        read_checkpoint(f"{folder}/x", set(VARIABLES))
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("dense/kernel"), "no tensor 'dense/kernel'"),
        (lambda t: t.update({"dense/bias": np.zeros(3, np.float32)}), "tensor 'dense/bias'"),
        (lambda t: t.update({"dense/bias": np.zeros(200)}), "float64"),
        (lambda t: t.update({"dense/bias": np.full(200, np.nan, np.float32)}), "not finite"),
        (lambda t: t.update({"dense_2/bias": np.zeros(3, np.float32)}), "'dense_2/bias'"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, change, words):
    tensors = random_variables(0)
    change(tensors)
    save_file(tensors, tmp_path / "mine.safetensors")
    message = refused(tmp_path / "r", "musicnn", tmp_path / "mine.safetensors")
    assert words in message and "mine.safetensors" in message


def test_files_that_are_something_else(tmp_path):
    for name in ("a.safetensors", "a.whl", "a.pb", "a.txt"):
        (tmp_path / name).write_bytes(b"something else entirely")
        assert name in refused(tmp_path / "r", "musicnn", tmp_path / name, options={"engine": "essentia"})
    (tmp_path / "folder.pb").mkdir()
    assert "folder.pb" in refused(tmp_path / "r", "musicnn", tmp_path / "folder.pb", options={"engine": "essentia"})
    (tmp_path / "a.pth").write_bytes(b"something else entirely")
    assert "a.pth" in refused(tmp_path / "r", "r2plus1d", tmp_path / "a.pth")


def graph_of(tensors) -> bytes:
    return graphdef.musicnn_graph(tensors, [affine(tensors, i) for i in range(11)], 187, 96)


def test_a_frozen_graph_needs_essentia_and_its_nodes(tmp_path):
    graph = graph_of(random_variables(0))
    (tmp_path / "good.pb").write_bytes(graph)
    assert "engine: essentia" in refused(tmp_path / "r", "musicnn", tmp_path / "good.pb")
    essentia = {"engine": "essentia"}
    assert get(tmp_path / "r", "musicnn", tmp_path / "good.pb", options=essentia)["random"] is False
    bad = {
        "named.pb": (graph.replace(b"model/flatten/Reshape", b"model/flatten/Reshaqe"), "model/flatten/Reshape"),
        "nosy.pb": (graph.replace(b"ExpandDims\x1a", b"WriteFiles\x1a"), "WriteFile"),
    }
    for name, (content, words) in bad.items():
        (tmp_path / name).write_bytes(content)
        assert words in refused(tmp_path / "r2", "musicnn", tmp_path / name, options=essentia)


# Random weights


@pytest.mark.parametrize("backbone", ["musicnn", "r2plus1d"])
def test_random_weights_are_of_their_seed_and_say_so(tmp_path, backbone, caplog):
    first = get(tmp_path / "a", backbone, "random", seed=3)
    assert first["random"] is True and first["seed"] == 3 and "random" in first["source"]
    assert "RANDOM" in caplog.text
    torch.rand(5)  # what was drawn before must not matter
    assert get(tmp_path / "b", backbone, "random", seed=3) == first
    assert get(tmp_path / "b", backbone, "random", seed=4)["sha256"] != first["sha256"]


def test_random_weights_stay_random_when_their_file_is_passed_on(tmp_path):
    first = get(tmp_path / "a", "musicnn", "random", seed=7)
    shutil.copy(Paths(tmp_path / "a").weights("musicnn"), tmp_path / "innocent.safetensors")
    record = get(tmp_path / "b", "musicnn", tmp_path / "innocent.safetensors")
    assert record["random"] is True and record["seed"] == 7 and record["sha256"] == first["sha256"]


# Sources and the command line


def test_sources_that_do_not_exist(tmp_path):
    message = refused(tmp_path, "r2plus1d", "kinetics-400")
    assert "kinetics400, random" in message and "./kinetics-400" in message
    assert "/nowhere/w.pth" in refused(tmp_path, "r2plus1d", "/nowhere/w.pth")
    assert "wheel, wheel-mtt, random" in refused(tmp_path, "musicnn", "kinetics400")


def test_command_line(tmp_path):
    config = config_of(tmp_path / "results", "musicnn", "random", seed=2)
    path = Paths(tmp_path / "results").config
    write_json(path, config.model_dump(mode="json"))
    command = [sys.executable, "-m", "pipeline.weights", "--config", str(path), "--backbone"]
    done = execute([*command, "musicnn"])
    assert done.returncode == 0 and "RANDOM" in done.stderr
    assert json.loads(Paths(tmp_path / "results").weights_record("musicnn").read_text())["seed"] == 2
    done = execute([*command, "r2plus1d"])
    assert done.returncode == 2 and done.stderr.startswith("error:") and "['musicnn']" in done.stderr
