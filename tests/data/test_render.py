"""The rendered music videos: latents with a known correlation, real files, resuming."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.cli import UserError
from config.model import Config
from config.pipeline import Render
from data.render import frames as drawing
from data.render import latents, music, plan, render_video
from data.render.__main__ import COLUMNS, RECORD, TABLE, render_all
from tests.support.commands import execute

SMALL = Render(videos=2, seed=3, seconds=(4.0, 5.0))


def songs(correlation: float, count: int, seed: int = 0) -> list[latents.Song]:
    return [latents.draw(seed, index, correlation) for index in range(count)]


# Latents


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_correlation_of_the_scores_is_the_configured_one(correlation: float) -> None:
    drawn = songs(correlation, 3000)
    audio = np.array([song.audio.scores for song in drawn])
    video = np.array([song.video.scores for song in drawn])
    for scores in (audio, video):
        assert np.abs(scores.mean(axis=0)).max() < 0.12
        assert np.abs(scores.std(axis=0) - 1).max() < 0.08
    measured = [np.corrcoef(audio[:, k], video[:, k])[0, 1] for k in range(latents.WIDTH)]
    assert measured == pytest.approx([correlation] * latents.WIDTH, abs=0.08)
    heard, seen = (np.ravel([getattr(s, side).sections[:, 0] for s in drawn]) for side in ("audio", "video"))
    assert np.corrcoef(heard, seen)[0, 1] == pytest.approx(correlation, abs=0.06)
    agreement = np.mean([song.audio.genre == song.video.genre for song in drawn])
    assert agreement == pytest.approx(correlation + (1 - correlation) / 6, abs=0.035)


def test_uncorrelated_video_knows_neither_genre_nor_artist() -> None:
    drawn = songs(0.0, 3000)
    video = np.array([song.video.scores for song in drawn])
    for label in ("genre", "artist"):
        names = np.array([song.audio.genre if label == "genre" else song.artist for song in drawn])
        groups, sizes = np.unique(names, return_counts=True)
        means = np.array([video[names == group].mean(axis=0) for group in groups])
        # Means of n independent standard normals, times sqrt(n), are standard normal; shared style would widen them.
        assert (means * np.sqrt(sizes)[:, None]).std() == pytest.approx(1, abs=0.35 if label == "genre" else 0.08)


def test_fully_correlated_video_is_the_audio() -> None:
    for song in songs(1.0, 50):
        assert song.video.genre == song.audio.genre
        assert song.video.factors(2) == song.audio.factors(2)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63), st.integers(0, 10**6), st.floats(0, 1))
def test_labels_and_audio_do_not_depend_on_the_correlation(seed: int, index: int, correlation: float) -> None:
    one, other = latents.draw(seed, index, correlation), latents.draw(seed, index, 0.0)
    np.testing.assert_array_equal(one.audio.scores, other.audio.scores)
    assert (one.audio.genre, one.artist, one.tags) == (other.audio.genre, other.artist, other.tags)
    assert 2 <= len(one.tags) <= 6 and len(set(one.tags)) == len(one.tags)
    assert all(0 <= value <= 1 for value in (*one.audio.factors(), *one.video.factors(1)))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_inconsistency_scales_what_sections_add_and_nothing_else(correlation: float) -> None:
    for index in range(20):
        plain, none, much = (latents.draw(5, index, correlation, scale) for scale in (1.0, 0.0, 3.0))
        assert latents.draw(5, index, correlation).audio.factors(3) == plain.audio.factors(3)
        for side in ("audio", "video"):
            one, still, wild = (getattr(song, side) for song in (plain, none, much))
            np.testing.assert_array_equal(one.scores, wild.scores)
            np.testing.assert_allclose(wild.sections, 3 * one.sections)
            assert still.factors(0) == still.factors(1) == still.factors() == one.factors()
            energy = [[x.factors(section).energy for section in range(latents.SECTIONS)] for x in (one, wild)]
            assert np.ptp(energy[0]) < np.ptp(energy[1]) <= 1


def test_inconsistency_is_heard_and_seen() -> None:
    """The levels of four-bar sections, in dB, and the contrasts of their frames."""
    spread: dict[str, list[float]] = {"audio": [], "video": []}
    for scale in (0.0, 3.0):
        scores = np.zeros(latents.WIDTH)
        sections = np.zeros((latents.SECTIONS, latents.WIDTH))
        sections[:, 0] = scale * np.where(np.arange(latents.SECTIONS) % 2, 0.25, -0.25)
        which = latents.Latents("folk", scores, sections)
        seconds = which.beat * latents.BEATS_A_BAR * latents.BARS_A_SECTION
        wave = music.render(which, 2 * seconds, 8000, np.random.default_rng(0)).mean(axis=0)
        halves = np.array_split(wave, 2)
        spread["audio"].append(abs(np.diff([20 * np.log10(half.std()) for half in halves])[0]))
        frames = np.stack(list(drawing.render(which, int(2 * seconds * 6), 6, np.random.default_rng(0))))
        luma = frames[:, : drawing.HEIGHT].astype(np.float32).std(axis=(1, 2))
        spread["video"].append(abs(np.diff([half.mean() for half in np.array_split(luma, 2)])[0]))
    for side, (still, wild) in spread.items():
        assert wild > 2 * still + 0.5, (side, still, wild)


def test_songs_differ_more_than_their_genres() -> None:
    drawn = songs(1.0, 2000)
    scores, names = (np.array(x) for x in zip(*((s.audio.scores, s.audio.genre) for s in drawn), strict=True))
    within = np.mean([scores[names == genre].var(axis=0).mean() for genre in latents.GENRES])
    assert 0.65 < within < 0.85


def test_seeds_and_indices_give_different_songs() -> None:
    scores = [latents.draw(seed, index, 1.0).audio.scores.tobytes() for seed in (-1, 0, 1) for index in range(100)]
    assert len(set(scores)) == len(scores)


def test_artists_are_shared_but_not_too_much() -> None:
    drawn = songs(1.0, 240)
    for genre in latents.GENRES:
        assert len({song.artist for song in drawn if song.audio.genre == genre}) >= 6
    artists = {song.artist for song in drawn}
    assert len(artists) < 120
    assert len({song.audio.genre for song in drawn}) == 6
    assert all(len({song.audio.genre for song in drawn if song.artist == artist}) == 1 for artist in artists)
    assert artists.isdisjoint(latents.draw(0, index, 1.0).artist for index in range(240, 480))


# Audio and video


def with_factor(name: str, score: float) -> latents.Latents:
    """Latents in the middle of everything but one factor."""
    scores = np.zeros(latents.WIDTH)
    scores[latents.Factors._fields.index(name)] = score
    return latents.Latents("folk", scores, np.zeros((latents.SECTIONS, latents.WIDTH)))


def audio_measures(which: latents.Latents) -> dict[str, float]:
    """Level in dB, centroid of the spectrum and of the notes in Hz, and bass in dB below the rest; 3 seconds."""
    wave = music.render(which, 5.0, 44_100, np.random.default_rng(0))[:, 44_100 : 4 * 44_100].mean(axis=0)
    power = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(wave.size, 1 / 44_100)
    notes = (hertz > 110) & (hertz < 1500)
    return {
        "level": 10 * np.log10(np.mean(wave**2)),
        "centroid": float((power**0.5 * hertz).sum() / (power**0.5).sum()),
        "pitch": float((power * hertz)[notes].sum() / power[notes].sum()),
        "low": 10 * np.log10(power[hertz < 110].sum() / power.sum()),
    }


@pytest.mark.parametrize(
    ("factor", "measure", "least"),
    [("energy", "level", 8), ("brightness", "centroid", 400), ("height", "pitch", 100), ("bass", "low", 8)],
)
def test_factors_are_heard(factor: str, measure: str, least: float) -> None:
    low, middle, high = (audio_measures(with_factor(factor, score))[measure] for score in (-1.5, 0.0, 1.5))
    assert low < middle < high and high - low > least


def video_measures(which: latents.Latents) -> dict[str, float]:
    """Means of the planes, contrast, detail along the rows, and change between frames, of 3 seconds."""
    frames = np.stack(list(drawing.render(which, 36, 12, np.random.default_rng(0)))).astype(np.float32)
    height = drawing.HEIGHT
    luma, u, v = frames[:, :height], frames[:, height : height * 5 // 4], frames[:, height * 5 // 4 :]
    return {
        "luma": luma.mean(),
        "u": u.mean(),
        "v": v.mean(),
        "contrast": luma.std(axis=(1, 2)).mean(),
        "change": np.abs(np.diff(luma, axis=0)).mean() / luma.std(),
    }


@pytest.mark.parametrize(
    ("factor", "measure", "least"),
    [
        ("brightness", "luma", 60),
        ("height", "u", 40),
        ("sustain", "v", 40),
        ("energy", "contrast", 6),
        ("roughness", "contrast", 4),
        ("tempo", "change", 0.2),
    ],
)
def test_factors_are_seen(factor: str, measure: str, least: float) -> None:
    low, middle, high = (video_measures(with_factor(factor, score))[measure] for score in (-1.5, 0.0, 1.5))
    assert low < middle < high and high - low > least


@pytest.mark.parametrize("genre", latents.GENRES)
@pytest.mark.parametrize("score", [-4.0, 0.0, 4.0])
def test_every_genre_renders_at_the_ends_of_the_factors(genre: str, score: float) -> None:
    which = latents.Latents(genre, np.full(latents.WIDTH, score), np.zeros((latents.SECTIONS, latents.WIDTH)))
    samples = music.render(which, 1.3, 44_100, np.random.default_rng(1))
    assert samples.shape == (2, 57_330) and samples.dtype == np.float32
    assert np.isfinite(samples).all() and 0.01 < np.abs(samples).max() < 1
    frames = list(drawing.render(which, 20, 12, np.random.default_rng(1)))
    assert len(frames) == 20
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((216, 256), "uint8")}


# Files


def decode(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, float | str]]:
    """Frames as RGB, audio as [channels, samples], and what the container and its streams say."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        facts: dict[str, float | str] = {
            "video": video.codec_context.name,
            "audio": audio.codec_context.name,
            "duration": (container.duration or 0) / 1e6,
        }
        frames, samples = [], []
        times: dict[str, list[float]] = {"video": [], "audio": []}
        for frame in container.decode(video, audio):
            assert isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.time is not None
            if isinstance(frame, av.VideoFrame):
                frames.append(frame.to_ndarray(format="rgb24"))
                times["video"] += [frame.time, frame.time + 1 / float(video.average_rate or 0)]
            else:
                planes = frame.to_ndarray()
                samples.append(planes if len(planes) == 2 else planes.reshape(-1, 2).T)
                times["audio"] += [frame.time, frame.time + frame.samples / frame.sample_rate]
        facts |= {f"{side} start": values[0] for side, values in times.items()}
        facts |= {f"{side} end": values[-1] for side, values in times.items()}
    return np.stack(frames), np.concatenate(samples, axis=1), facts


@pytest.mark.parametrize(("index", "codecs"), [(0, ("h264", "aac")), (7, ("vp9", "opus"))])
def test_a_video_is_what_the_plan_says(tmp_path: Path, index: int, codecs: tuple[str, str]) -> None:
    video = plan(SMALL, index)
    path = render_video(SMALL, index, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [video.name] == [path.name]
    frames, samples, facts = decode(path)
    assert facts["video"] == codecs[0] and str(facts["audio"]).endswith(codecs[1])
    assert 4 <= video.seconds <= 5.05
    assert facts["duration"] == pytest.approx(video.seconds, abs=0.1)
    for side in ("video", "audio"):
        assert facts[f"{side} start"] == pytest.approx(0, abs=0.03)
        assert facts[f"{side} end"] == pytest.approx(video.seconds, abs=0.1)
    assert len(frames) == video.frames and samples.shape[0] == 2
    assert frames.std(axis=(1, 2)).min() > 2 and np.abs(np.diff(frames.astype(int), axis=0)).mean() > 0.5
    assert 0.01 < np.sqrt(np.mean(samples**2)) and np.abs(samples).max() < 1
    quiet = np.sqrt((samples[:, : 4 * 44_100].reshape(2, 8, -1) ** 2).mean(axis=(0, 2))).min()
    assert quiet > 0.001, "some half second is silent"


def test_the_file_shows_what_was_drawn(tmp_path: Path) -> None:
    video = plan(SMALL, 0)
    frames, samples, _ = decode(render_video(SMALL, 0, tmp_path))
    drawn = list(
        drawing.render(
            video.song.video, video.frames, video.fps, latents.generator(SMALL.seed, latents.SCENES, video.index)
        )
    )
    rgb = [av.VideoFrame.from_ndarray(frame, format="yuv420p").to_ndarray(format="rgb24") for frame in drawn]
    assert np.abs(frames.astype(int) - np.stack(rgb)).mean() < 12
    made = music.render(
        video.song.audio, video.seconds, 44_100, latents.generator(SMALL.seed, latents.MUSIC, video.index)
    )
    assert np.corrcoef(samples[0, : made.shape[1]], made[0])[0, 1] > 0.95  # also says that the audio is not shifted


def test_the_set_is_the_same_in_any_order_and_complete_after_an_interruption(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert render_all(SMALL, one) == 2
    assert render_all(SMALL.model_copy(update={"videos": 1}), two) == 1
    assert render_all(SMALL, two, threads=2) == 1, "more videos: only the new one is rendered"
    (two / "song00000.mp4").unlink()
    (two / "song00001.mp4").unlink()
    (two / TABLE).unlink()
    (two / "song00000.mp4.wip").write_bytes(b"half a video")
    assert render_all(SMALL, two, threads=2) == 2
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes(), file.name

    before = {file: file.stat().st_mtime_ns for file in one.iterdir()}
    assert render_all(SMALL, one) == 0
    assert {file: file.stat().st_mtime_ns for file in one.iterdir()} == before

    rows = list(csv.DictReader((one / TABLE).read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["video_id"] for row in rows] == ["song00000", "song00001"]
    for row in rows:
        assert not Path(row["path"]).is_absolute() and (one / row["path"]).is_file()
        assert row["genre"] in latents.GENRES and row["artist"] and 2 <= len(row["tags"].split("|")) <= 6


def test_changed_parameters_render_everything_again(tmp_path: Path) -> None:
    short = Render(videos=1, seconds=(0.5, 0.5))
    render_all(short, tmp_path)
    before = (tmp_path / "song00000.mp4").read_bytes()
    (tmp_path / "mine.mp4").write_bytes(b"not rendered here")
    assert render_all(short.model_copy(update={"correlation": 0.0}), tmp_path) == 1
    assert (tmp_path / "song00000.mp4").read_bytes() != before
    assert (tmp_path / "mine.mp4").exists()
    wild = short.model_copy(update={"inconsistency": 2.0})
    assert [render_all(parameters, tmp_path) for parameters in (short, wild, wild, short)] == [1, 1, 0, 1]
    record = json.loads((tmp_path / RECORD).read_text())
    assert "inconsistency" not in record, "videos from before there was this key would be rendered again"
    (tmp_path / RECORD).write_text("{")
    assert render_all(short, tmp_path) == 1, "a damaged record vouches for nothing"
    assert (tmp_path / "song00000.mp4").read_bytes() == before


def test_a_stop_before_the_end_leaves_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.render.encode.write", full)
    with pytest.raises(UserError, match="No space left"):
        render_all(SMALL, tmp_path)
    assert not (tmp_path / TABLE).exists()


def test_command_line(tmp_path: Path) -> None:
    def call(config: Config) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.json").write_text(config.model_dump_json())
        command = [sys.executable, "-m", "data.render", "--config", str(tmp_path / "config.json")]
        return execute(command)

    done = call(Config(results=str(tmp_path), render=Render(videos=1, seconds=(0.5, 0.5))))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rendered" / TABLE).is_file()
    refused = call(Config(results=str(tmp_path), videos="mine.csv"))
    assert refused.returncode == 2
    assert "no `render` section" in refused.stderr and "Traceback" not in refused.stderr
