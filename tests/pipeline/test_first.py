"""A file that the first decoder does not know goes to the second, damage does not; the ledger says who read what."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.files import read_json, write_json
from config.paths import Paths
from config.pipeline import Decoding
from pipeline.journal import Journal
from pipeline.readers import Decoded, MediaError, first
from pipeline.readers.video import read_video
from pipeline.records import Failure, Record, read_record
from pipeline.shard import ShardJob
from pipeline.workers import Pool, Task
from tests.support.media import Audio, Video, regular, write
from tests.support.simulate import simulate

HOW = {"fps": 5.0, "resize": (128, 171), "crop": (112, 112)}
needs_decord = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A file that both decoders read, one whose container decord does not, a damaged one, one without video."""
    folder = tmp_path_factory.mktemp("first")
    good = write(folder / "good.mp4", Video(regular(3, 25), gop=25), Audio(3))
    data = bytearray(Path(good).read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    (folder / "damaged.mp4").write_bytes(data)
    return {
        "good": good,
        "transport": write(folder / "a.ts", Video(regular(3, 25), gop=25), Audio(3)),
        "damaged": str(folder / "damaged.mp4"),
        "audio": write(folder / "audio.mp4", Audio(3)),
    }


def read(files: dict[str, str], decoder: str, names: list[str], **how: Any) -> list[Decoded | MediaError]:
    """Read as an extraction does: in a worker, through the pool."""
    arguments = {"starts": [0.5], "seconds": 1.0, "decoder": decoder, **HOW, **how}
    tasks = [Task(i, "pipeline.readers.first:video", {"path": files[n], **arguments}) for i, n in enumerate(names)]
    with Pool(1, Decoding()) as pool:
        return [answer for _, answer in pool.results(tasks, ahead=1)]


@needs_decord
def test_decord_sends_on_what_it_does_not_know_and_keeps_damage(files):
    good, transport, damaged, audio = read(files, "decord", ["good", "transport", "damaged", "audio"])
    assert isinstance(good, Decoded) and good.decoder == "decord"
    assert isinstance(transport, Decoded) and transport.decoder == "pyav"
    np.testing.assert_array_equal(transport.segments, read_video(files["transport"], [0.5], 1.0, **HOW))
    assert isinstance(damaged, MediaError) and (damaged.reason, damaged.decoder) == ("decode_error", "decord")
    assert isinstance(audio, MediaError) and (audio.reason, audio.decoder) == ("no_video_stream", "decord")


@needs_decord
@pytest.mark.parametrize("how", [{"resize": 128}, {"interpolation": "bicubic"}])
def test_decord_sends_on_what_it_cannot_scale(files, how):
    (good, damaged), alone = read(files, "decord", ["good", "damaged"], **how), read(files, "pyav", ["good"], **how)[0]
    assert isinstance(good, Decoded) and good.decoder == "pyav"
    assert isinstance(alone, Decoded) and (good.segments == alone.segments).all()
    assert isinstance(damaged, MediaError) and (damaged.reason, damaged.decoder) == ("decode_error", "pyav")


def test_pyav_reads_it_first(files):
    good, damaged = read(files, "pyav", ["good", "damaged"])
    assert isinstance(good, Decoded) and good.decoder == "pyav"
    assert isinstance(damaged, MediaError) and (damaged.decoder, damaged.attempts) == ("pyav", 1)


@pytest.mark.parametrize(
    ("errors", "tried", "last"),
    [
        ({"pyav": True, "decord": None}, ["pyav", "decord"], "decord"),
        ({"pyav": False}, ["pyav"], "pyav"),
        ({"pyav": True, "decord": True}, ["pyav", "decord"], "pyav"),
        ({"pyav": True, "decord": False}, ["pyav", "decord"], "decord"),
    ],
)
def test_who_has_the_last_word(monkeypatch, errors, tried, last):
    calls = []

    def fake(path, *, decoder, **request):
        calls.append(decoder)
        if errors[decoder] is not None:
            raise MediaError("decode_error", f"{decoder} says no", unsupported=errors[decoder])
        return np.zeros(3)

    monkeypatch.setattr(first, "read_video", fake)
    monkeypatch.setattr(first, "find_spec", lambda name: name)
    if None in errors.values():
        assert first.video("x", decoder="pyav", starts=[0.0]).decoder == last
    else:
        with pytest.raises(MediaError, match=f"{last} says no") as caught:
            first.video("x", decoder="pyav", starts=[0.0])
        assert caught.value.decoder == last
    assert calls == tried


def test_audio_names_its_decoder_too(files):
    request = {"starts": [0.5], "seconds": 1.0, "rate": 16000}
    assert first.audio(files["audio"], **request).decoder == "pyav"
    with pytest.raises(MediaError) as caught:
        first.audio("/nowhere", **request)
    assert (caught.value.reason, caught.value.decoder) == ("missing", "pyav")


def test_the_journal_remembers_decoders_and_attempts(tmp_path):
    with Journal(tmp_path, "k", (2,), np.float16) as journal:
        journal.decoders[4] = "decord"
        journal.add(4, np.zeros(2, np.float16))
        journal.add(5, MediaError("crashed", "twice", attempts=2, decoder="pyav"))
    with Journal(tmp_path, "k", (2,), np.float16) as journal:
        error = journal.outcomes[5]
        assert journal.decoders == {4: "decord"}
        assert isinstance(error, MediaError) and (error.attempts, error.decoder) == (2, "pyav")


def shard(config) -> ShardJob:
    return ShardJob(config, "musicnn", 0, (3, 64), np.float16)


def test_the_record_counts_decoders_once_however_the_job_was_cut(tmp_path):
    config = simulate(tmp_path / "results", videos=4)
    paths = Paths(tmp_path / "results")
    ledger = paths.ledger("musicnn", 0, "a" * 64)
    known = read_json(ledger)
    # As after a job that has read the first two, one of them with the second decoder.
    write_json(ledger, known | {"decoders": {"decord": 1, "pyav": 1}})
    features = paths.features / "musicnn_valid" / "c" / "0"
    before = features.read_bytes()
    job = shard(config)
    with job.journal:
        assert not job.todo()
        job.journal.decoders[3] = "pyav"
        job.journal.add(3, job.journal.outcomes[3])
    job = shard(config)  # the journal of a job that was killed just after its record was written
    with job.journal:
        assert job.finish().decoders == {"decord": 1, "pyav": 1}
    assert features.read_bytes() == before


def test_the_record_counts_no_decoder_of_a_video_that_failed_later(tmp_path):
    """The network may fail after the decoder; a journal that is opened again knows nothing of that decoder."""
    config = simulate(tmp_path / "results", videos=4)
    config.paths.ledger("musicnn", 0, "a" * 64).unlink()
    job = shard(config)
    with job.journal:
        for row in job.rows:
            job.journal.decoders[row] = "pyav"
            job.add(row, np.zeros((3, 64), np.float16) if row else MediaError("decode_error", "why"))
        record = job.finish()
    assert record.decoders == {"pyav": 3} and record.valid == 3


def test_records_of_the_former_shape_are_read(tmp_path):
    path = tmp_path / "record.json"
    failure = {"row": 1, "video_id": "v", "reason": "timeout", "message": "slow"}
    write_json(path, {"key": "k", "rows": 2, "valid": 1, "digest": "d", "failures": [failure]})
    assert read_record(path) == Record("k", 2, 1, "d", [Failure(1, "v", "timeout", "slow", 1, "")], {})
