"""What the renderer has planted (`data/render/latents.py`), to judge by it what the descriptors find. Reads nothing.

A rendered video's sound and picture follow eight latent factors each. Every pair below is a descriptor of the sound and
one of the picture that the renderer lets one factor move. Others may go together too: through a factor that moves
both on the side, or because factors share the genres' centres; what the latents explain is not a false discovery.
"""

from __future__ import annotations

import numpy as np

from config.model import Render
from data.render import plan
from data.render.latents import BARS_A_SECTION, BEATS_A_BAR, SECTIONS, Factors
from eval.study.associations import Associations, Table, associations

PLANTED = {
    ("loudness", "contrast"): "energy",
    ("loudness", "cut_rate"): "energy",
    ("tempo", "motion_energy"): "tempo",
    ("spectral_centroid", "brightness"): "brightness",
    ("dynamic_range", "dominant_hue"): "sustain",
    ("onset_rate", "dominant_hue"): "sustain",
}
"""{(descriptor of the sound, of the picture): the factor that moves both}."""


def latents(render: Render, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 [videos, 8] of sound and picture of the rendered videos with these numbers."""
    songs = [plan(render, int(i)).song for i in indices]
    return np.stack([s.sound.scores for s in songs]), np.stack([s.picture.scores for s in songs])


def seen(table: Table, scores: np.ndarray) -> Associations:
    """Which of its own side's factors each descriptor sees."""
    return associations(table, {name: scores[:, k] for k, name in enumerate(Factors._fields)})


def sectional(render: Render, indices: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """float64 [videos, 2]: what the sections add to energy and density of the sound, the mean over the segments.

    `middles` float [videos, segments]: the segments' middles in seconds.
    """
    found = []
    for index, times in zip(indices, middles, strict=True):
        sound = plan(render, int(index)).song.sound
        numbers = (times / (sound.beat * BEATS_A_BAR * BARS_A_SECTION)).astype(np.int64) % SECTIONS
        found.append(sound.sections[numbers].mean(axis=0))
    names = [Factors._fields.index(name) for name in ("energy", "density")]
    return np.array(found)[:, names]


def given(scores: np.ndarray, sections: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """float64 [videos, any]: what the renderer shares between sound and picture at correlation 1, to be held constant.

    Factors are not linear in the scores nor descriptors in the factors, so a score is held constant by its decile, by
    its value inside that, and by its products with the others.
    """
    a, b = np.triu_indices(scores.shape[1])
    deciles = [np.searchsorted(np.quantile(x, np.arange(1, 10) / 10), x) for x in scores.T]
    return np.column_stack([scores, scores[:, a] * scores[:, b], *(np.eye(10)[d] for d in deciles), sections, genres])
