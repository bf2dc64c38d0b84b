"""Queries with files, read by the pipeline's own readers and backbones, against a small collection of real films."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench.fault_server import FaultServer
from bench.query import audio_alone
from bench.remote_servers import allowing, authority, files
from config.cli import UserError
from config.files import read_json, write_json
from config.model import Config, read
from eval.query.answer import Answer
from eval.query.page import page
from eval.query.query import Query
from eval.report.clip import clip
from pipeline.features import open_features
from pipeline.outside import OutsideFile, read_files
from tests.support.collection import NAMES, collection, embed_untrained, film
from tests.support.commands import execute
from tests.support.media import Audio, Video, regular, write
from tests.support.shards import write_shard

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with films, and in `results` their cache and embeddings."""
    folder = tmp_path_factory.mktemp("files")
    embed_untrained(collection(folder).config)
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Config:
    """A copy of the results, free to be changed; the films stay where they are."""
    shutil.copytree(folder / "results", tmp_path / "results", symlinks=True)
    return read(tmp_path / "results" / "config.json")


def asked(config: Config, *items: Path | str) -> list[Answer]:
    return Query(config, "untrained").search_all(items, split=None, same=True)


def test_a_file_of_the_collection_gives_the_cached_features(folder: Path, config: Config) -> None:
    view = open_features(config.paths)
    files = [OutsideFile(str(folder / f"v{i}.mp4"), f"v{i}") for i in (3, 0)]
    for row, result in zip((3, 0), read_files(config, NAMES, files), strict=True):
        assert not result.failures
        np.testing.assert_array_equal(result.starts, view.start()[row])
        assert result.duration == view.duration()[row]
        for name in NAMES:
            np.testing.assert_array_equal(result.features[name], view.numpy(name)[row])


def test_a_file_at_an_address_gives_the_features_of_the_file(folder: Path, config: Config, tmp_path: Path) -> None:
    made, view = authority(tmp_path), open_features(config.paths)
    with FaultServer(files(folder), made.tls) as web:
        decoding = config.decoding.model_copy(update={"remote": allowing(made, web.port)})
        allowed = config.model_copy(update={"decoding": decoding})
        address = f"https://localhost:{web.port}/v3.mp4"
        there, refused = read_files(allowed, NAMES, [OutsideFile(address, "v3"), OutsideFile("s3://bucket/a.mp4", "a")])
        by_address, by_id = asked(allowed, address, "v3")
    for name in NAMES:
        np.testing.assert_array_equal(there.features[name], view.numpy(name)[3])
        assert refused.failures[name].reason == "missing"
    assert [m.row for m in by_address.searches[0].matches] == [m.row for m in by_id.searches[0].matches]
    assert by_address.path == address


def test_a_file_of_the_collection_is_found_as_its_id_is(folder: Path, config: Config) -> None:
    by_file, by_id = asked(config, folder / "v2.mp4", "v2")
    assert (by_file.video_id, by_id.video_id) == ("v2", "v2") and by_file.path == by_id.path
    assert by_file.starts == by_id.starts and len(by_file.starts) == 2
    for a, b in zip(by_file.searches, by_id.searches, strict=True):
        assert a.own_rank == b.own_rank and [m.row for m in a.matches] == [m.row for m in b.matches]
        assert [m.cosine for m in a.matches] == pytest.approx([m.cosine for m in b.matches], abs=1e-3)
        assert [m.moment.start for m in a.matches] == [m.moment.start for m in b.matches]
    assert all(search.own_rank is not None for search in by_file.searches[:2])


@pytest.mark.parametrize("suffix", ["mp3", "opus"])
def test_audio_alone_is_searched_by_audio_and_finds_its_video(folder: Path, config: Config, suffix: str) -> None:
    target = audio_alone(str(folder / "v1.mp4"), config.paths.results / f"v1.{suffix}")
    alone, whole = asked(config, target, "v1")
    assert alone.video_id is None and alone.starts == pytest.approx(whole.starts, abs=0.1)
    assert [(s.source, s.target) for s in alone.searches] == [("audio", "video"), ("audio", "audio")]
    assert [failure.reason for failure in alone.failures["video"]] == ["no_video_stream"]
    assert alone.searches[1].matches[0].video_id == "v1" and alone.searches[1].matches[0].cosine > 0.8
    assert not any(match.own for search in alone.searches for match in search.matches)


def test_a_silent_file_is_searched_by_video(tmp_path: Path, config: Config) -> None:
    silent = write(tmp_path / "silent.mp4", Video(regular(8, 10)))
    (answer,) = asked(config, silent)
    assert [search.source for search in answer.searches] == ["video", "video"]
    assert [failure.reason for failure in answer.failures["audio"]] == ["no_audio_stream"]


def test_what_cannot_be_read_says_why_and_harms_no_other(folder: Path, config: Config, tmp_path: Path) -> None:
    text, short = tmp_path / "text.mp4", film(tmp_path / "short.mp4", 1, 1.5)
    text.write_text("no film at all")
    answers = asked(config, text, short, folder / "v0.mp4", tmp_path, "broken")
    reasons = [{f.reason for failures in answer.failures.values() for f in failures} for answer in answers]
    assert reasons == [{"unreadable"}, {"too_short"}, set(), {"unreadable"}, {"unreadable"}]
    assert [len(answer.searches) for answer in answers] == [0, 0, 4, 0, 0]
    command = [sys.executable, "-m", "eval.query", "--config", str(config.paths.config), "--experiment", "untrained"]
    done = execute([*command, str(text), "--json", "-"])
    assert done.returncode == 2 and "error: nothing was searched" in done.stderr
    (answer,) = json.loads(done.stdout)["answers"]
    assert {failure["modality"] for failure in answer["failures"]} == {"audio", "video"}
    assert [f["reason"] for f in answer["failures"]] == ["unreadable"] * 2


def test_nothing_is_left_behind(folder: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    before = sorted(config.paths.results.rglob("*"))
    asked(config, folder / "v0.mp4")
    assert not list((tmp_path / "temporary").iterdir()) and sorted(config.paths.results.rglob("*")) == before


def test_other_segments_are_refused_by_name(folder: Path, config: Config) -> None:
    path = config.paths.config
    content = json.loads(path.read_text())
    content["segments"]["window"] = 3.5
    write_json(path, content)
    with pytest.raises(UserError, match=r"these differ: segments \(window: 3\.5; the cache: 3\.2\)"):
        asked(read(path), folder / "v0.mp4")
    assert asked(read(path), "v0")[0].searches, "an id needs nothing to be read"


def test_other_weights_are_refused_by_name(folder: Path, config: Config) -> None:
    name = NAMES[0]
    record = read_json(config.paths.weights_record(name))
    assert record is not None
    write_json(config.paths.weights_record(name), record | {"sha256": "e" * 64})
    with pytest.raises(UserError, match=rf"weights/{name}\.safetensors holds other weights than .*{name}\.json says"):
        asked(config, folder / "v0.mp4")
    weights = config.paths.weights(name)
    save_file({**load_file(weights), "another": np.zeros(3, np.float32)}, weights)
    write_json(config.paths.weights_record(name), record)
    with pytest.raises(UserError, match="holds other weights than"):
        asked(config, folder / "v0.mp4")
    weights.unlink()
    with pytest.raises(UserError, match=rf"{name}\.safetensors cannot be read"):
        asked(config, folder / "v0.mp4")


def test_new_weights_without_a_new_extraction_are_refused(folder: Path, config: Config) -> None:
    from pipeline.weights import digest

    name = NAMES[1]
    record, weights = read_json(config.paths.weights_record(name)), config.paths.weights(name)
    assert record is not None
    tensors = {**load_file(weights), "another": np.zeros(3, np.float32)}
    save_file(tensors, weights)
    write_json(config.paths.weights_record(name), record | {"sha256": digest(tensors), "source": "another file"})
    with pytest.raises(UserError, match=r"features of picture_descriptors .* differ: weights \(another file, \w{8}; "):
        asked(config, folder / "v0.mp4")


def test_clips_of_audio_and_of_silent_video_can_be_played(folder: Path, tmp_path: Path) -> None:
    audio = audio_alone(str(folder / "v1.mp4"), tmp_path / "audio.mp3")
    for path in (audio, write(tmp_path / "silent.mp4", Video(regular(8, 10)))):
        sizes = clip(str(path), 1.0, 2.0, str(tmp_path / "out"), "pyav")
        assert all(size > 500 for size in sizes)
    neither = write(tmp_path / "still.mp4", Video([0.0]), Audio(3))
    with pytest.raises(Exception, match="single frame"):
        clip(neither, 0.0, 2.0, str(tmp_path / "out"), "pyav")


def test_a_member_of_a_shard_is_a_query(folder: Path, config: Config, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", {"v2.mp4": (folder / "v2.mp4").read_bytes()})
    plain = tmp_path / "v2.mp4"
    shutil.copy(folder / "v2.mp4", plain)
    member, file = asked(config, f"{shard}::v2.mp4", plain)
    assert member.path == f"{shard}::v2.mp4" and member.video_id is None and not member.failures
    assert member.starts == file.starts and member.searches == file.searches
    (missing,) = asked(config, f"{shard}::none.mp4")
    assert {failure.reason for failures in missing.failures.values() for failure in failures} == {"missing"}
    with pytest.raises(UserError, match="is no file"):
        asked(config, f"{tmp_path}/1.tar::v2.mp4")
    with pytest.raises(UserError, match="protocol 'ftp'"):
        asked(config, "ftp://host/v2.mp4")
    drawn = page(Query(config, "untrained"), [member])
    assert drawn.count("data:video/mp4") > 0 and "cannot be read" not in drawn
    assert "<audio" not in drawn


def test_the_page_plays_a_song_without_a_black_picture(folder: Path, config: Config, tmp_path: Path) -> None:
    (song,) = asked(config, audio_alone(str(folder / "v1.mp4"), tmp_path / "song.mp3"))
    drawn = page(Query(config, "untrained"), [song])
    matches = sum(len(search.matches) for search in song.searches)
    assert drawn.count("<audio") == matches == drawn.count("<video")
