"""The relations that the renderer planted (`data/render/latents.py`), to judge those that are found. Reads nothing.

The audio and the frames of a rendered video follow eight latent factors each. PLANTED has the pairs of an audio and a
video descriptor that the renderer moves by the same factor. Other pairs may be associated too, because a factor has
side effects on both, or because factors share the genres' centres. What the latents explain is no false discovery.
"""

from __future__ import annotations

import numpy as np

from config.pipeline import Render
from data.render import plan
from data.render.latents import BARS_A_SECTION, BEATS_A_BAR, SECTIONS, Factors
from study.relations.associations import Associations, Table, associations

PLANTED = {
    ("loudness", "contrast"): "energy",
    ("loudness", "cut_rate"): "energy",
    ("tempo", "motion_energy"): "tempo",
    ("spectral_centroid", "brightness"): "brightness",
    ("dynamic_range", "dominant_hue"): "sustain",
    ("onset_rate", "dominant_hue"): "sustain",
}
"""{(audio descriptor, video descriptor): the factor that moves both}."""


def latents(render: Render, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the latent scores of audio and video, float64 [videos, 8] each, of the rendered videos `indices`."""
    songs = [plan(render, int(index)).song for index in indices]
    return np.stack([song.audio.scores for song in songs]), np.stack([song.video.scores for song in songs])


def factor_associations(table: Table, scores: np.ndarray, groups: np.ndarray) -> Associations:
    """Test every descriptor against every factor of the same modality, whose scores are float64 [videos, 8]."""
    return associations(table, {name: scores[:, column] for column, name in enumerate(Factors._fields)}, None, groups)


def section_offsets(render: Render, indices: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return what the sections add to the audio's energy and density, means over the segments, float64 [videos, 2].

    `middles` float [videos, segments]: the middles of the segments in seconds.
    """
    offsets = []
    for index, times in zip(indices, middles, strict=True):
        audio = plan(render, int(index)).song.audio
        sections = (times / (audio.beat * BEATS_A_BAR * BARS_A_SECTION)).astype(np.int64) % SECTIONS
        offsets.append(audio.sections[sections].mean(axis=0))
    return np.array(offsets)[:, [Factors._fields.index(name) for name in ("energy", "density")]]


def shared_factors(scores: np.ndarray, sections: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """Return all that audio and video share at correlation 1, to be held constant: float64 [videos, any].

    Factors are not linear in the scores, nor descriptors in the factors, so each score enters with its value, its
    decile and its products with all scores.
    """
    first, second = np.triu_indices(scores.shape[1])
    deciles = [np.searchsorted(np.quantile(score, np.arange(1, 10) / 10), score) for score in scores.T]
    coded = [np.eye(10)[decile] for decile in deciles]
    return np.column_stack([scores, scores[:, first] * scores[:, second], *coded, sections, genres])
