"""Audio descriptors on signals whose tempo, level, spectrum and key are known.

essentia runs in one process of its own, as in the pipeline: beside decord it could not start.
"""

import sys

import numpy as np
import pytest

from config.cli import UserError
from pipeline.backbones import descriptors
from pipeline.backbones.audio_descriptors import FIFTHS, QUIETEST, RATE, AudioDescriptors, clarity
from pipeline.backbones.base import WeightsSource
from pipeline.backbones.registry import load_class, resolve_options
from tests.support.commands import execute

NAME = "sound_descriptors"
COLUMNS = descriptors.columns(NAME)
RUN = """
import sys
import numpy as np
from pathlib import Path
from pipeline.backbones.audio_descriptors import AudioDescriptors
given = np.load(sys.argv[1])
new = lambda: AudioDescriptors(Path("nowhere"), {}, "cpu", 1)
backbone = new()
features = {name: backbone.features(given[name]) for name in given}
fresh = {f"fresh_{name}": new().features(given[name]) for name in ("clicks_150", "C_major", "noise", "sine_500")}
np.savez(sys.argv[2], **features, **fresh)
assert "torch" not in sys.modules and "decord" not in sys.modules
"""


def time(seconds: float = 3.0) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


def sine(hertz: float, level: float = -20.0, seconds: float = 3.0) -> np.ndarray:
    return 10 ** (level / 20) * np.sin(2 * np.pi * hertz * time(seconds))


def clicks(bpm: float, first: float = 0.25, seconds: float = 3.0) -> np.ndarray:
    """Short bursts of noise on every beat, over a little hiss."""
    rng = np.random.default_rng(0)
    signal = 1e-3 * rng.standard_normal(round(seconds * RATE))
    burst = 0.5 * rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300)
    for beat in np.arange(first, seconds - 0.05, 60 / bpm):
        signal[round(beat * RATE) :][: len(burst)] += burst
    return signal


def chord(*semitones: int) -> np.ndarray:
    """Tones with five harmonics, in semitones above C4."""
    return sum(
        (sine(261.626 * 2 ** (note / 12) * k, -30 - 6 * k) for note in semitones for k in range(1, 6)),
        np.zeros_like(time()),
    )


SIGNALS = {
    **{f"clicks_{bpm}": clicks(bpm) for bpm in (80, 100, 125, 150)},
    "noise": 0.1 * np.random.default_rng(1).standard_normal(len(time())),
    "swell": np.random.default_rng(1).standard_normal(len(time())) * 10 ** (-3 + np.abs(time() - 1.5)),
    "silence": np.zeros_like(time()),
    "faint": 1e-5 * np.random.default_rng(1).standard_normal(len(time())),
    "constant": np.full_like(time(), 0.5),
    "sine_500": sine(500),
    "sine_4000": sine(4000),
    "sine_997_23": sine(997, -23),
    "sine_997_35": sine(997, -35),
    "C_major": chord(0, 4, 7, 12),
    "A_minor": chord(-3, 0, 4, 9),
    "E_major": chord(4, 8, 11, 16),
    "second": clicks(120, seconds=1.0),
    "long": clicks(120, seconds=20.0),
}


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> dict[str, np.ndarray]:
    """{signal: float32 [1, 41]}; `batch`: all signals of three seconds at once; `fresh_…`: some, each alone."""
    folder = tmp_path_factory.mktemp("audio")
    arrays = {name: signal[None].astype(np.float32) for name, signal in SIGNALS.items()}
    arrays["batch"] = np.concatenate([a for a in arrays.values() if a.shape[1] == len(time())])
    np.savez(folder / "in.npz", **arrays)
    done = execute([sys.executable, "-c", RUN, str(folder / "in.npz"), str(folder / "out.npz")])
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == "", "essentia printed something"
    return dict(np.load(folder / "out.npz"))


@pytest.fixture(scope="module")
def value(features):
    """value(signal, descriptor): a number, or an array where there are several."""

    def look(signal: str, descriptor: str):
        values = features[signal][0, COLUMNS[descriptor]]
        return values if len(values) > 1 else float(values[0])

    return look


def test_columns_have_names_and_float16_holds_them(features):
    ends = [0, *(part.stop for part in COLUMNS.values())]
    assert [part.start for part in COLUMNS.values()] == ends[:-1]
    assert ends[-1] == AudioDescriptors.dim == features["noise"].shape[1] == 41
    assert COLUMNS["tempo"] == slice(0, 1) and COLUMNS["key"] == slice(7, 9) and COLUMNS["onset"] == slice(11, 41)
    for name, row in features.items():
        assert row.dtype == np.float32 and np.isfinite(row).all(), name
        np.testing.assert_allclose(row.astype(np.float16), row, rtol=1 / 2048, atol=1e-7)


def test_a_segment_does_not_depend_on_its_batch(features):
    alone = [features[name] for name, signal in SIGNALS.items() if len(signal) == len(time())]
    np.testing.assert_array_equal(features["batch"], np.concatenate(alone))
    for name in (name for name in features if name.startswith("fresh_")):  # by algorithms that have seen nothing else
        np.testing.assert_array_equal(features[name], features[name.removeprefix("fresh_")])


@pytest.mark.parametrize("bpm", [80, 100, 125, 150])
def test_tempo_and_onsets_of_clicks(value, bpm):
    assert value(f"clicks_{bpm}", "tempo") == pytest.approx(bpm, rel=0.03)
    assert value(f"clicks_{bpm}", "onset_rate") == pytest.approx(bpm / 60, abs=0.4)
    assert value(f"clicks_{bpm}", "beats_confidence") > 0.8 > 0.5 > value("noise", "beats_confidence")


def test_the_envelope_shows_where_notes_begin(value):
    envelope = value("clicks_100", "onset")
    beats = ((0.25 + 0.6 * np.arange(5)) / 0.1).astype(int)
    assert sorted(np.argsort(envelope)[-5:]) == beats.tolist()
    assert (value("second", "onset")[10:] == 0).all() and value("second", "onset")[:10].max() > 0


def test_loudness_is_that_of_the_standard(value):
    """EBU Tech 3341, case 1: a sine of 1 kHz at -23 dBFS in both channels has -23 LUFS."""
    assert value("sine_997_23", "loudness") == pytest.approx(-23, abs=0.1)
    assert value("sine_997_35", "loudness") == pytest.approx(-35, abs=0.1)


def test_dynamic_range_and_danceability_order_signals(value):
    assert value("noise", "dynamic_range") < 1 < 6 < value("swell", "dynamic_range")
    assert value("swell", "danceability") < value("clicks_125", "danceability")


@pytest.mark.parametrize("hertz", [500, 4000])
def test_centroid_of_a_sine(value, hertz):
    assert value(f"sine_{hertz}", "spectral_centroid") == pytest.approx(hertz / 1000, rel=0.03)


@pytest.mark.parametrize("name", ["C_major", "A_minor", "E_major"])
def test_key_and_mode_of_chords(value, name):
    tonic, mode = name.split("_")
    angle = 2 * np.pi * FIFTHS[tonic] / 12
    np.testing.assert_allclose(value(name, "key"), [np.cos(angle), np.sin(angle)], atol=1e-6)
    assert value(name, "mode") == (mode == "major")
    assert value(name, "key_strength") > 0.6


def test_silence_has_the_values_that_are_documented(features):
    expected = np.zeros(AudioDescriptors.dim, np.float32)
    expected[COLUMNS["loudness"]] = QUIETEST
    np.testing.assert_array_equal(features["silence"][0], expected)
    np.testing.assert_array_equal(features["faint"][0], expected)


def test_clarity_is_the_correlation_with_the_next_beat():
    regular = np.tile([1.0, 0, 0, 0.2, 0], 12)
    assert clarity(regular, 5.2) == pytest.approx(1.0)
    assert clarity(np.ones(60), 5) == 0 and clarity(regular[:4], 5) == 0


def test_wrong_segments_and_weights_are_refused(tmp_path):
    backbone = object.__new__(AudioDescriptors)  # what it checks needs no essentia
    with pytest.raises(ValueError, match="float32"):
        backbone.features(np.zeros((1, RATE), np.float64))
    with pytest.raises(UserError, match="write `weights: none`"):
        load_class(NAME).fetch(WeightsSource("random", 0, resolve_options(NAME, {}), "backbones.x.weights"), tmp_path)
    assert load_class(NAME).fetch(WeightsSource("none", 0, {}, "backbones.x.weights"), tmp_path)[0] == {}
