"""Latent factors of the rendered music videos, which audio and video share to a known degree.

A pure function of (seed, index, correlation, inconsistency); reads and writes nothing. Each factor has a score,
standard normal over the videos: a weighted sum of its genre's centre, its artist's style and the song's own draw. The
video's score is `ρ · audio + sqrt(1 - ρ²) · independent`, where the independent part has its own genre and style: the
scores have correlation ρ, and at ρ = 0 audio and video share nothing but their length and their container. A score
becomes a factor in [0, 1] through the normal distribution function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Factors(NamedTuple):
    """The latent factors, each in [0, 1]: what it does to the audio / to the video.

    Pairings follow studies of crossmodal correspondence where there are some (pitch and elevation, loudness and
    contrast, timbre and lightness, low notes and large shapes; Spence 2011, "Crossmodal correspondences: A tutorial
    review").
    """

    energy: float
    """Loudness / contrast, flashes on the beat and cuts."""
    tempo: float
    """Beats per minute, and the pitch of the drums / speed, and how upright the texture is."""
    brightness: float
    """Weight of high harmonics and hiss / lightness."""
    height: float
    """Register of melody and chords / colour from yellow to blue, and elevation of the shapes."""
    density: float
    """Notes and hi-hats per bar, voices per chord / number of shapes and lights."""
    roughness: float
    """Noise and distortion / fineness, sharpness and contrast of the texture."""
    bass: float
    """Weight of bass and kick / size of the shapes, and weight of the stage below."""
    sustain: float
    """Length of the notes, weight of the chords / colour from green to red."""


WIDTH = len(Factors._fields)

# Rows as in Factors. Only their shape matters: the columns are standardised below.
_CENTRES = {
    "techno": (1.0, 1.0, 0.0, -0.5, 1.0, 0.0, 1.5, -1.0),
    "ballad": (-0.5, -1.2, -0.5, 0.5, -0.8, -1.0, 0.0, 1.0),
    "metal": (1.5, 1.0, 0.8, -1.0, 1.0, 2.0, 0.5, 0.0),
    "ambient": (-1.5, -1.0, -1.0, 0.3, -1.5, 0.2, 0.0, 1.8),
    "disco": (0.5, 0.5, 1.0, 0.8, 0.5, -0.4, 0.8, -0.8),
    "folk": (-0.8, 0.0, 0.3, 0.8, -0.3, -0.8, -1.2, -0.3),
}
GENRES = tuple(_CENTRES)
_RAW = np.array([_CENTRES[genre] for genre in GENRES])
CENTRES = (_RAW - _RAW.mean(axis=0)) / _RAW.std(axis=0)

# Shares of the variance. Most is the song's own, so that a positive differs from negatives of its genre and artist.
GENRE_SHARE, ARTIST_SHARE = 0.25, 0.10

ARTISTS = 12
"""Artists per genre in each block of ALBUM videos; the next block has new ones, so there are more with more videos."""
ALBUM = 240

BEATS_A_BAR, BARS_A_SECTION = 4, 4
SECTIONS = 16
"""Sections whose scores are drawn; a longer video repeats them."""
_SECTIONAL = np.array([name in ("energy", "density") for name in Factors._fields])

# The purposes that random numbers are drawn for.
_AUDIO, _VIDEO, _AUDIO_STYLE, _VIDEO_STYLE, _GENRE, PLAN, MUSIC, SCENES = range(1, 9)


def generator(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """Return the random generator of one purpose, independent of all others. A negative seed is taken modulo 2^64."""
    return np.random.default_rng([seed % 2**64, purpose, *numbers])


@dataclass(frozen=True)
class Latents:
    """The factors of one modality, audio or video, of one video."""

    genre: str
    scores: np.ndarray
    """[WIDTH] float64, standard normal over all videos."""
    sections: np.ndarray
    """[SECTIONS, WIDTH] float64, added to the scores in each section; small at an inconsistency of 1, and zero but for
    energy and density."""

    def factors(self, section: int | None = None) -> Factors:
        """Return the factors in [0, 1] of the whole video or of one section (counted from 0)."""
        scores = self.scores if section is None else self.scores + self.sections[section % SECTIONS]
        return Factors(*(0.5 * (1 + math.erf(z / math.sqrt(2))) for z in scores))

    @property
    def beat(self) -> float:
        """Seconds per beat: 65 to 180 beats per minute."""
        return 60 / (65 + 115 * self.factors().tempo)


@dataclass(frozen=True)
class Song:
    """The latents of one video and its labels, which follow the audio and do not depend on the correlation."""

    audio: Latents
    video: Latents
    artist: str

    @property
    def tags(self) -> list[str]:
        """Two to six tags: a word for each factor of the audio in its lower or upper 30 %, the most extreme first."""
        factors = self.audio.factors()
        extreme = sorted(Factors._fields, key=lambda name: -abs(getattr(factors, name) - 0.5))
        words = [_TAGS[name][getattr(factors, name) > 0.5] for name in extreme]
        clear = sum(abs(value - 0.5) >= 0.2 for value in factors)
        return words[: min(max(clear, 2), 6)]


def draw(seed: int, index: int, correlation: float, inconsistency: float = 1.0) -> Song:
    """Return the latents of video `index`; `correlation` ρ in [0, 1], `inconsistency` ≥ 0. Pure: no state, no order.

    The scores of audio and video have this correlation; their genres agree with probability `ρ + (1 - ρ) / 6`.
    What a section adds to a video's scores is multiplied by `inconsistency`, and nothing else.
    """
    artist = ARTISTS * (index // ALBUM) + int(generator(seed, _AUDIO, index, 1).integers(ARTISTS))
    audio = _independent(seed, index, artist, _AUDIO, _AUDIO_STYLE, inconsistency)
    other = _independent(seed, index, artist, _VIDEO, _VIDEO_STYLE, inconsistency)
    rest = math.sqrt(1 - correlation**2)
    same = generator(seed, _GENRE, index).random() < correlation
    video = Latents(
        genre=audio.genre if same else other.genre,
        scores=correlation * audio.scores + rest * other.scores,
        sections=correlation * audio.sections + rest * other.sections,
    )
    return Song(audio, video, _name(audio.genre, artist))


def _independent(seed: int, index: int, artist: int, modality: int, own_style: int, inconsistency: float) -> Latents:
    rng = generator(seed, modality, index, 2)
    genre = int(rng.integers(len(GENRES)))
    # A video's own style is drawn by video, not by artist: at correlation 0 not even the artist is shared.
    style = generator(seed, own_style, genre, artist if modality == _AUDIO else index)
    scores = (
        math.sqrt(GENRE_SHARE) * CENTRES[genre]
        + math.sqrt(ARTIST_SHARE) * style.standard_normal(WIDTH)
        + math.sqrt(1 - GENRE_SHARE - ARTIST_SHARE) * rng.standard_normal(WIDTH)
    )
    # Verse and chorus: every other section is louder and denser, either the even or the odd ones.
    lift = np.where((np.arange(SECTIONS) + rng.integers(2)) % 2, 0.25, -0.25)[:, None]
    sections = (lift + 0.15 * rng.standard_normal((SECTIONS, WIDTH))) * _SECTIONAL
    return Latents(GENRES[genre], scores, inconsistency * sections)


_FIRST = ("Velvet", "Copper", "Paper", "Midnight", "Plastic", "Northern", "Electric", "Hollow",
          "Silver", "Restless", "Winter", "Second")  # fmt: skip
_SECOND = ("Circuit", "Letters", "Anvil", "Tide", "Mirror", "Orchard")


def _name(genre: str, artist: int) -> str:
    album, number = divmod(artist, ARTISTS)
    return f"{_FIRST[number]} {_SECOND[GENRES.index(genre)]}" + (f" {album + 1}" if album else "")


_TAGS = {
    "energy": ("mellow", "loud"),
    "tempo": ("slow", "fast"),
    "brightness": ("dark", "bright"),
    "height": ("deep", "high"),
    "density": ("sparse", "dense"),
    "roughness": ("smooth", "noisy"),
    "bass": ("light", "bass"),
    "sustain": ("staccato", "legato"),
}
