"""Flat maps of sounds and pictures, for people to look at. Reads and writes nothing.

Principal components always; UMAP (McInnes et al. 2018, arXiv 1802.03426) besides where the package `umap-learn` is
installed, which is not among the requirements.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

SIDES = ("audio", "video")
DIGITS = 4
NEIGHBOURS = 15
"""UMAP's default; fewer videos have no such map."""


def maps(audio: np.ndarray, video: np.ndarray, shared: bool, seed: int) -> list[dict[str, Any]]:
    """Maps of `audio` and `video`, float [videos, dim] each: on one map where the space is `shared`, else on two.

    Each is a dict of `method`, `audio` and `video` (x and y of every video), and, for PCA, `explained`: by side the
    share of the variance that each of the two axes has.
    """
    found = [_map("PCA", audio, video, shared, seed)]
    if find_spec("umap") and len(audio) > NEIGHBOURS:
        found.append(_map("UMAP", audio, video, shared, seed))
    return found


def _map(method: str, audio: np.ndarray, video: np.ndarray, shared: bool, seed: int) -> dict[str, Any]:
    draw = _pca if method == "PCA" else _umap
    if shared:
        both, share = draw(np.concatenate([audio, video]), seed)
        places, shares = dict(zip(SIDES, np.split(both, 2), strict=True)), dict.fromkeys(SIDES, share)
    else:
        drawn = {side: draw(points, seed) for side, points in zip(SIDES, (audio, video), strict=True)}
        places = {side: place for side, (place, _) in drawn.items()}
        shares = {side: share for side, (_, share) in drawn.items()}
    flat = {side: np.round(place, DIGITS).tolist() for side, place in places.items()}
    return {"method": method, "shared": shared, **flat, "explained": shares}


def _pca(points: np.ndarray, seed: int) -> tuple[np.ndarray, list[float] | None]:
    """The first two principal components [points, 2] and their shares of the variance.

    Each component's sign is fixed, its largest coordinate being positive: a map must not flip from run to run.
    """
    centred = points.astype(np.float64) - points.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(points), 2))
    kept = min(2, len(s))
    flat[:, :kept] = u[:, :kept] * s[:kept]
    flat *= np.where(flat[np.abs(flat).argmax(axis=0), [0, 1]] < 0, -1, 1)
    total = float((s**2).sum())
    return flat, [float(x**2) / total if total else 0.0 for x in [*s, 0.0, 0.0][:2]]


def _umap(points: np.ndarray, seed: int) -> tuple[np.ndarray, list[float] | None]:
    """UMAP with its defaults, by cosine; its axes mean nothing by themselves."""
    import umap  # seconds to import: only where it is used

    return umap.UMAP(n_neighbors=NEIGHBOURS, metric="cosine", random_state=seed % 2**32).fit_transform(points), None
