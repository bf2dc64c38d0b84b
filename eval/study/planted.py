"""What the renderer has planted (`data/render/latents.py`), to judge by it what the descriptors find. Reads nothing.

A rendered video's sound and picture follow eight latent factors each. Every pair below is a descriptor of the sound and
one of the picture that the renderer lets one factor move. Others may go together too: through a factor that moves
both on the side, or because factors share the genres' centres; what the latents explain is not a false discovery.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from config.model import Render
from data.render import plan
from data.render.latents import Factors
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


def given(sound: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """float64 [videos, any]: all that the renderer shares between sound and picture, to be held constant.

    Factors are not linear in the scores nor descriptors in the factors, so their squares and products count too.
    """
    x = norm.ppf((np.apply_along_axis(rankdata, 0, sound) - 0.5) / len(sound))
    a, b = np.triu_indices(x.shape[1])
    return np.column_stack([x, x[:, a] * x[:, b], x**3, genres])
