"""Channels mixed to mono: by their mean or their loudspeakers, and what is lost is reported. Temporary files only."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from config.files import read_json, write_json
from config.model import Config, load
from config.paths import Paths
from eval.report import gather
from eval.report.__main__ import report
from pipeline import index, plan
from pipeline.backbones.registry import load_class, resolve_options
from pipeline.extract import Lane
from pipeline.features import open_features
from pipeline.readers import Decoded, first
from pipeline.readers.audio import read_audio
from pipeline.readers.downmix import COEFFICIENTS, LOSS, MOST, coefficients, mono
from pipeline.records import Record, read_record
from pipeline.shard import ShardJob
from pipeline.status import status, words
from tests.support.media import Audio, chirp, write
from tests.support.simulate import simulate

RATE = 16000
T = 0.5 + np.arange(RATE) / RATE
HALF = np.sqrt(0.5)


def two(t: np.ndarray) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * t)


def gains_of(*places: int, of: int) -> tuple[float, ...]:
    """Return the gains of a file with audio in some of its channels."""
    return tuple(float(i in places) for i in range(of))


@pytest.mark.parametrize(
    "gains, mean, layout",
    [
        ((1.0,), 1, 1),
        ((1.0, 1.0), 1, 1),
        ((1.0, 0.0), 1 / 2, 1 / 2),
        ((1.0, -1.0), 0, 0),
        (gains_of(0, 1, of=6), 1 / 3, 1),  # stereo in 5.1
        (gains_of(0, 1, of=8), 1 / 4, 1),  # stereo in 7.1
        (gains_of(2, of=6), 1 / 6, HALF),  # all in the centre
        (gains_of(3, of=6), 1 / 6, 0),  # LFE
        (gains_of(4, of=6), 1 / 6, HALF / 2),  # a surround channel
        (gains_of(6, of=8), 1 / 8, HALF / 2),
    ],
)
@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_mean_and_layout(gains: tuple[float, ...], mean: float, layout: float, codec: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Audio(2, codec=codec, gains=gains, rate=RATE, wave=two))
    for downmix, level in (("mean", mean), ("layout", layout)):
        clip = read_audio(path, [0.5], 1.0, RATE, downmix).segments[0]  # type: ignore[arg-type]
        assert np.abs(clip - level * two(T)).max() < 1e-3, downmix
    if len(gains) < 3:  # nothing to choose: the same to the bit
        assert (
            read_audio(path, [0.5], 1.0, RATE).segments == read_audio(path, [0.5], 1.0, RATE, "layout").segments
        ).all()


def test_coefficients_are_those_of_bs_775() -> None:
    """Annex 4, table 2: mono from 3/2 is .7071 L + .7071 R + 1.0 C + .5 LS + .5 RS; here times √½."""
    table = {"FL": 0.7071, "FR": 0.7071, "FC": 1.0, "LFE": 0.0, "SL": 0.5, "SR": 0.5}
    channels = tuple(c.name for c in av.AudioLayout("5.1(side)").channels)
    factors = coefficients(channels)
    assert factors is not None
    np.testing.assert_allclose(factors, [HALF * table[name] for name in channels], atol=1e-4)


@pytest.mark.parametrize("name", ["quad", "5.0", "6.1", "7.1(wide)", "7.1.4", "22.2", "octagonal", "downmix", "4.0"])
def test_every_layout_of_ffmpeg_has_coefficients(name: str) -> None:
    assert {c.name for c in av.AudioLayout(name).channels} <= set(COEFFICIENTS)


def test_channels_without_loudspeakers_are_averaged() -> None:
    for channels in (3 * ("NONE",), ("NONE", "FL"), ("LFE", "LFE2"), ("FC",)):
        assert coefficients(channels) is None


@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_eight_planes_are_read_as_eight(codec: str, tmp_path: Path) -> None:
    """PyAV reads beyond the frame there, which killed the process."""
    gains = (1.0, 0.8, 0.6, 0.0, 0.4, 0.2, 0.1, 0.3)
    path = write(tmp_path / "a.mkv", Audio(2, codec=codec, gains=gains, rate=48000, bit_rate=768_000))
    clip = read_audio(path, [0.5], 1.0, RATE).segments[0]
    level = (clip * chirp(T)).sum() / (chirp(T) ** 2).sum()
    assert level == pytest.approx(np.mean(gains), rel=0.03)


@pytest.mark.parametrize("format, step", [("u8", 128), ("s16", 32768), ("s32p", 2**31), ("fltp", 1), ("dbl", 1)])
def test_layout_and_energy_in_every_sample_format(format: str, step: int) -> None:
    x = np.round(np.stack([0.5 * two(T), 0.25 * two(T), two(T), two(T), 0 * T, 0 * T]) * 64) / 64
    kind = {"u8": np.uint8, "s16": np.int16, "s32p": np.int32, "fltp": np.float32, "dbl": np.float64}[format]
    stored = (x * step + (128 if format == "u8" else 0)).astype(kind)
    stored = stored if format.endswith("p") else stored.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stored), format=format, layout="5.1")
    mixed, energy = mono(frame, "layout")
    assert np.abs(mixed - (0.5 * x[0] + 0.5 * x[1] + HALF * x[2])).max() < 1e-6
    assert energy == pytest.approx((x[2] ** 2).sum(), rel=1e-5)
    mixed, energy = mono(frame, "mean")
    assert np.abs(mixed - x.mean(axis=0)).max() < 1e-6


@pytest.mark.parametrize(
    "gains, mean, layout",
    [
        ((1.0,), 0, 0),
        ((1.0, 0.8), 0.9, 0.9),
        ((1.0, 0.0), 6.0, 6.0),
        ((1.0, -1.0), MOST, MOST),
        ((1.0, -0.6), 14, 14),
        (gains_of(0, 1, of=8), 12.0, 0),
        (gains_of(2, of=6), 15.6, 3.0),
    ],
)
def test_what_is_lost_is_measured(gains: tuple[float, ...], mean: float, layout: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", Audio(3, codec="flac", gains=gains))
    for downmix, lost in (("mean", mean), ("layout", layout)):
        assert read_audio(path, [0.5], 1.0, RATE, downmix).loss == pytest.approx([lost], abs=0.1)  # type: ignore[arg-type]


def test_silence_loses_nothing_and_the_worst_segment_counts(tmp_path: Path) -> None:
    def quiet(t: np.ndarray) -> np.ndarray:
        return np.where(t < 2, 0, chirp(t))

    path = write(tmp_path / "a.mkv", Audio(6, codec="flac", gains=(1.0, -1.0), wave=quiet))
    assert read_audio(path, [0.2, 3.0], 1.0, RATE).loss.tolist() == [0.0, MOST]
    request: dict[str, Any] = {"seconds": 1.0, "rate": RATE}
    assert first.audio(path, starts=[0.2, 3.0], **request).mono_loss == MOST
    assert first.audio(path, starts=[0.2, 3.0, 9.0], partial=True, **request).mono_loss == MOST
    assert first.audio(path, starts=[0.2], **request).mono_loss == 0


@pytest.mark.parametrize("name", ["musicnn", "sound_descriptors"])
def test_the_option_is_in_the_key_only_where_it_is_set(name: str) -> None:
    kind = load_class(name)
    as_ever, layout = (resolve_options(name, given) for given in ({}, {"downmix": "layout"}))
    assert kind.preprocessing(as_ever)["mono"] == "mean of the channels"
    assert kind.preprocessing(layout)["mono"] != kind.preprocessing(as_ever)["mono"]
    assert kind.preprocessing(layout) | {"mono": 0} == kind.preprocessing(as_ever) | {"mono": 0}
    assert [kind.request(options).downmix for options in (as_ever, layout)] == ["mean", "layout"]


def test_keys_are_those_of_before_there_was_a_choice() -> None:
    def keys(**options: str) -> list[str]:
        names = {"musicnn": "wheel", "sound_descriptors": "none"}
        backbones = {name: {"weights": weights, "options": options} for name, weights in names.items()}
        raw = {"results": "r", "videos": "v.csv", "heads": {"audio": "musicnn", "video": "sound_descriptors"}}
        weights = dict.fromkeys(names, {"sha256": "0" * 64, "random": False})
        made = plan.make_plan(load(raw | {"backbones": backbones}), 10, weights)
        return [made.key(name)[:16] for name in names]

    assert keys() == keys(downmix="mean") == KEYS
    assert not set(keys(downmix="layout")) & set(KEYS)


KEYS = ["f75efcc8e088c442", "afb67053e396ae58"]
"""Computed by the version before the option."""


def test_the_journal_remembers(tmp_path: Path) -> None:
    backbones = {name: {"weights": "random", "device": "cpu"} for name in ("musicnn", "r2plus1d")}
    config = simulate(tmp_path, videos=2, backbones=backbones)
    shutil.rmtree(Paths(tmp_path).ledger("musicnn", 0, "a" * 64).parents[1])
    for _ in range(2):
        lane = Lane(config, "musicnn", 0)
        with lane.job.journal as journal:
            if not journal.outcomes:
                for row, loss in enumerate((12.0411, 6.0)):
                    lane.segments(row, Decoded(np.zeros((1, 2)), "pyav", None, loss))
                    lane.take(row, np.zeros((3, 64), np.float16))
                journal.forget([7])
    assert journal.mono_loss == {0: 12.0} and set(journal.outcomes) == {0, 1}


def lossy(folder: Path) -> Config:
    """A simulated cache whose first shard has two videos that lose much."""
    config = simulate(folder, videos=6, unreadable=[4])
    paths = Paths(folder)
    for path in (paths.done("musicnn", 0), paths.ledger("musicnn", 0, "a" * 64)):
        write_json(path, read_json(path) | {"mono_loss": {"1": 12.0, "2": 120.0}})
    return config


def test_records_keep_what_was_lost(tmp_path: Path) -> None:
    config = lossy(tmp_path)
    paths = Paths(tmp_path)
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        job.journal.mono_loss[3] = 15.6  # as if read again by a job that was cut
        job.journal.add(3, job.journal.outcomes[3])
    job = ShardJob(config, "musicnn", 0, (3, 64), np.float16)
    with job.journal:
        job.finish()
    record = read_record(paths.done("musicnn", 0))
    assert record is not None and record.mono_loss == {1: 12.0, 2: 120.0}  # what the store has counts
    assert record == read_record(paths.ledger("musicnn", 0, "a" * 64))


def test_records_of_healthy_files_are_what_they_were() -> None:
    """No new field, so that finished shards do not differ from those of the version before."""
    healthy = Record("k", 2, 2, "d")
    assert "mono_loss" not in healthy.json()
    assert Record("k", 2, 2, "d", mono_loss={0: 12.0}).json()["mono_loss"] == {0: 12.0}


def test_status_features_and_report_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = lossy(tmp_path)
    states = status(Paths(tmp_path), datetime.now(UTC))
    assert (states["musicnn"].mono_loss, states["r2plus1d"].mono_loss) == (2, 0)
    assert f"musicnn: 2 videos with features lose more than {LOSS:g} dB" in words(states)
    assert open_features(tmp_path).mono_loss("musicnn") == {1: 12.0, 2: 120.0}
    monkeypatch.setattr(sys, "argv", ["index", "--config", str(Paths(tmp_path).config)])
    index.main()
    run = gather.gather(config)
    assert [(line["video_id"], line["loss_db"]) for line in run.mono_loss] == [("v0001", 12.0), ("v0002", 120.0)]
    assert run.losing_mono == {"musicnn": 2}
    page = " ".join(report(config).read_text().split())
    assert f"Audio: 2 videos of musicnn lose more than {LOSS:g} dB" in page
    assert (tmp_path / "report" / "tables" / "mono_loss.csv").read_text().splitlines()[2].endswith(",120.0")
