"""Synthesises simple music from the audio latents: chords, bass, melody and drums. Reads and writes nothing.

Everything is notes: each distinct note is rendered once from a band-limited wavetable and then added wherever the score
has it, so half a minute takes a tenth of a second. Subtractive filters are replaced by the slope of the harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.render.latents import BARS_A_SECTION, BEATS_A_BAR, Factors, Latents

STEPS = 16  # sixteenth notes per bar
TABLE_BITS = 11
PENTATONIC = {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)}
CHORDS = {  # semitones above the key, four bars
    "major": ((0, 4, 7), (7, 11, 14), (9, 12, 16), (5, 9, 12)),
    "minor": ((0, 3, 7), (8, 12, 15), (3, 7, 10), (10, 14, 17)),
}


@dataclass(frozen=True)
class Style:
    """What a genre fixes: chance of a minor key, kick pattern (steps of a bar), drum level, and the lead's waveform."""

    minor: float
    kicks: tuple[int, ...]
    drums: float
    odd: bool  # only odd harmonics, a hollow timbre
    detune: float  # semitones between left and right


STYLES = {
    "techno": Style(0.8, (0, 4, 8, 12), 1.0, False, 0.10),
    "ballad": Style(0.4, (0, 8), 0.5, True, 0.04),
    "metal": Style(0.9, (0, 2, 6, 8, 10, 14), 1.2, False, 0.14),
    "ambient": Style(0.5, (0,), 0.5, False, 0.20),
    "disco": Style(0.3, (0, 4, 8, 12), 0.9, True, 0.06),
    "folk": Style(0.2, (0, 8), 0.4, False, 0.03),
}


def render(latents: Latents, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return the song: [2, round(seconds · rate)] float32 in (-1, 1), determined by the arguments and the generator.

    Every factor acts on the whole song; sections change only level and density, and mildly.
    """
    factors, style = latents.factors(), STYLES[latents.genre]
    samples = round(seconds * rate)
    bar = latents.beat * BEATS_A_BAR * rate
    bars = int(np.ceil(samples / bar))
    mix = np.zeros((2, samples), np.float32)
    mode = "minor" if rng.random() < style.minor else "major"
    key = 42 + int(rng.integers(3)) + round(34 * factors.height)  # MIDI: F#2 to F#5
    roots = CHORDS[mode]
    _drums(mix, latents, style, bar, bars, rate, rng)
    tone = _harmonics(factors, style.odd)
    for number, chord in enumerate(roots):
        starts = [bar * b for b in range(bars) if b % len(roots) == number]
        length = int(bar * (0.35 + 0.65 * factors.sustain))
        voices = [note + octave for octave in (0, 12) for note in chord][: 1 + round(5 * factors.density)]
        for note in voices:
            for channel, cents in enumerate((-style.detune / 2, style.detune / 2)):
                wave = _note(key - 12 + note + cents, length, rate, tone, attack=0.05, decay=0.6 + 3 * factors.sustain)
                _add(mix[channel], starts, wave * (_gain(-32, 2, factors.sustain) / len(voices) ** 0.5))
        root = 33 + (key + chord[0] - 33) % 12
        wave = _note(root, int(bar / 4), rate, 1 / np.arange(1, 9), attack=0.01, decay=0.4)
        steps = (0, 6, 8, 14) if factors.density > 0.5 else (0, 8)
        _add(
            mix, [start + bar * step / STEPS for start in starts for step in steps], wave * _gain(-34, 0, factors.bass)
        )
    _lead(mix, latents, PENTATONIC[mode], key, bar, bars, rate, tone, rng)
    return _master(mix, latents, bar, rng)


def _harmonics(factors: Factors, odd: bool) -> np.ndarray:
    """Return the amplitudes of the harmonics: from almost a sine (dark) to harder than a sawtooth (bright)."""
    order = np.arange(1, 40)
    amplitude = order ** -(3.2 - 2.7 * factors.brightness)
    return np.where(order % 2 == 1, amplitude, 0) if odd else amplitude


def _gain(low: float, high: float, factor: float) -> float:
    """Return a gain between two levels in dB, so that a factor acts evenly on loudness and log-mel spectrograms."""
    return 10 ** ((low + (high - low) * factor) / 20)


def _note(midi: float, samples: int, rate: int, harmonics: np.ndarray, attack: float, decay: float) -> np.ndarray:
    """Return one note, [samples] float32 of at most 1: a wavetable without aliases; attack and decay in seconds."""
    frequency = 440 * 2 ** ((midi - 69) / 12)
    kept = harmonics[: max(1, int(0.45 * rate / frequency))]
    spectrum = np.zeros(2 ** (TABLE_BITS - 1) + 1, np.complex64)
    spectrum[1 : kept.size + 1] = -1j * kept
    table = np.fft.irfft(spectrum).astype(np.float32)
    table /= np.abs(table).max()
    # Phase accumulator: a full turn is 2^32, so that overflow is the wrap-around.
    phase = np.arange(samples, dtype=np.uint32) * np.uint32(frequency / rate * 2**32)
    wave: np.ndarray = table[phase >> np.uint32(32 - TABLE_BITS)]
    wave *= np.exp(np.arange(samples, dtype=np.float32) * np.float32(-1 / (decay * rate)))
    for edge, length in ((slice(None), int(attack * rate)), (slice(None, None, -1), int(0.01 * rate))):
        length = min(length, samples)
        wave[edge][:length] *= np.linspace(0, 1, length, dtype=np.float32)
    return wave


def _add(mix: np.ndarray, starts: list[float], wave: np.ndarray) -> None:
    """Add `wave` to the last axis of `mix` at each start (samples), cut at the end."""
    for start in map(int, starts):
        room = mix.shape[-1] - start
        if room > 0:
            mix[..., start : start + wave.size] += wave[:room]


def _spread(hits: int, steps: int = STEPS) -> list[int]:
    """Return `hits` evenly spread steps (Toussaint 2005, "The Euclidean algorithm generates traditional musical
    rhythms")."""
    return [step for step in range(steps) if step * hits % steps < hits]


def _lead(
    mix: np.ndarray, latents: Latents, scale: tuple[int, ...], key: int, bar: float, bars: int, rate: int,
    tone: np.ndarray, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Add a two-bar motif over the pentatonic scale, another one in every other section."""
    factors = latents.factors()
    motifs = np.clip(np.cumsum(rng.integers(-2, 3, (2, 2 * STEPS)), axis=1) + 2, 0, 6)
    starts: dict[int, list[float]] = {}
    for number in range(bars):
        section = number // BARS_A_SECTION
        for step in _spread(1 + round(11 * latents.factors(section).density)):
            degree = int(motifs[section % 2, number % 2 * STEPS + step])
            starts.setdefault(degree, []).append(bar * (number + step / STEPS))
    length = int(rate * (0.08 + 0.7 * factors.sustain))
    for degree, times in starts.items():
        note = key + 12 * (degree // 5) + scale[degree % 5]
        wave = _note(
            note, length, rate, tone, attack=0.004 + 0.03 * factors.sustain, decay=0.05 + 0.8 * factors.sustain
        )
        for channel in (0, 1):
            _add(mix[channel], times, wave * (0.4 if degree % 2 == channel else 0.3))


def _drums(
    mix: np.ndarray, latents: Latents, style: Style, bar: float, bars: int, rate: int, rng: np.random.Generator
) -> None:
    """Add kick, snare on two and four, and hats, more with density. Fast songs have shorter, higher drums."""
    factors = latents.factors()
    time = np.arange(int(0.22 * rate), dtype=np.float32) / rate
    noise = _noise(time.size, factors.brightness, rng)
    short = 1 + 2 * factors.tempo
    sweep = 2 * np.pi * ((40 + 40 * factors.tempo) * time + 3 * (1 - np.exp(-30 * time)))
    kick = np.sin(sweep) * np.exp(-12 * short * time) * _gain(-24, 3, factors.bass)
    shell = np.sin(2 * np.pi * 150 * 3**factors.tempo * time)
    snare = (0.25 * noise + 0.7 * shell) * np.exp(-12 * short * time)
    block = 0.7 * np.sin(2 * np.pi * 900 * 4**factors.tempo * time) * np.exp(-30 * time)
    hat = _noise(time.size, 1.5, rng) * np.exp(-40 * time) * _gain(-30, -2, factors.density)
    for number in range(bars):
        hats = _spread(2 + round(14 * latents.factors(number // BARS_A_SECTION).density))
        for drum, steps, level in (
            (kick, style.kicks, 1.0),
            (snare, (4, 12), 0.7),
            (block, (0, 4, 8, 12), 1.0),
            (hat, hats, 1.0),
        ):
            _add(mix, [bar * (number + step / STEPS) for step in steps], drum * np.float32(level * style.drums * 0.6))


def _master(mix: np.ndarray, latents: Latents, bar: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise and distortion by roughness, then set the level: -26 to -9 dB RMS by energy, section by section."""
    factors = latents.factors()
    mix *= 0.2 / _rms(mix)
    loop = _noise(2**16, factors.brightness, rng) * np.float32(0.2 * 10 ** (-2.2 + 1.7 * factors.roughness))
    for start in range(0, mix.shape[1], loop.size):
        part = mix[:, start : start + loop.size]
        part += loop[: part.shape[1]]
    _saturate(mix, 1 + 7 * factors.roughness)
    mix *= 1 / _rms(mix)
    section = bar * BARS_A_SECTION
    for number in range(int(np.ceil(mix.shape[1] / section))):
        level = _gain(-26, -9, latents.factors(number).energy)
        mix[:, int(number * section) : int((number + 1) * section)] *= np.float32(level)
    _saturate(mix, 1.0)
    mix *= np.float32(0.85)
    return mix


def _noise(samples: int, brightness: float, rng: np.random.Generator) -> np.ndarray:
    """Return [samples] float32 noise of unit RMS, from brown (dark) to white (bright)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum *= np.maximum(np.arange(spectrum.size), samples / 500) ** (brightness - 1)
    noise = np.fft.irfft(spectrum, samples)
    normalised: np.ndarray = (noise / noise.std()).astype(np.float32)
    return normalised


def _rms(mix: np.ndarray) -> np.float32:
    sample = mix[:, ::7]
    return np.float32(np.sqrt(np.mean(sample * sample, dtype=np.float64))) + np.float32(1e-9)


def _saturate(mix: np.ndarray, drive: float) -> None:
    """Clip softly in place, x / sqrt(1 + x²); the result is inside (-1, 1)."""
    mix *= np.float32(drive)
    mix /= np.sqrt(1 + mix * mix)
