"""Draws the frames of a rendered music video from its video latents. Reads and writes nothing.

A frame is an image of palette indices: a scrolling texture, shapes laid over it by a maximum, sometimes a dancer. The
palette, in the encoder's YUV, carries colour, contrast and the flashes on the beat, so a frame takes about 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data.render.latents import BARS_A_SECTION, BEATS_A_BAR, Factors, Latents

WIDTH, HEIGHT = 256, 144
MARGIN = 72  # around the canvas: a shape of the largest radius, 34, is outside the frame at half of it
SCENES = 4  # a video cuts between these

# Ranges of the palette. A later range lies over an earlier one.
BACKGROUND, STAGE, LIGHTS = range(0, 100), range(100, 140), range(140, 160)
LIGHT, DARK, DANCER = range(160, 200), range(200, 240), range(240, 256)


@dataclass(frozen=True)
class Scene:
    """One camera setting: `texture` [HEIGHT, 2 WIDTH] uint8 repeats after WIDTH; shapes have unit `speed` and phase."""

    texture: np.ndarray
    direction: int
    x: np.ndarray
    y: np.ndarray
    speed: np.ndarray
    radius: np.ndarray
    dark: np.ndarray
    dancer: bool


def render(latents: Latents, count: int, fps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield `count` frames, [HEIGHT · 3 / 2, WIDTH] uint8 in yuv420p (BT.601, limited range).

    Deterministic in the arguments and the generator's state. Every factor shows in every frame or, for tempo, in any
    pair of frames; sections change only contrast and the number of shapes, and mildly.
    """
    factors, beat = latents.factors(), latents.beat
    scenes = [_scene(latents, number, rng) for number in range(SCENES)]
    chroma = _chroma(factors)
    poses = _dancer()
    sprites: dict[tuple[int, bool], np.ndarray] = {}
    canvas = np.zeros((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), np.uint8)
    inside = canvas[MARGIN:-MARGIN, MARGIN:-MARGIN]
    speed = 8 + 112 * factors.tempo  # pixels a second
    cut = beat * max(2, round(14 - 12 * factors.energy))
    for number in range(count):
        time = number / fps
        scene = scenes[int(time / cut) % SCENES]
        now = latents.factors(int(time / (beat * BEATS_A_BAR * BARS_A_SECTION)))
        phase = time / beat % 1
        shift = int(scene.direction * speed * time) % WIDTH
        inside[:] = scene.texture[:, shift : shift + WIDTH]
        shapes = 2 + round(14 * now.density)
        xs = (scene.x - scene.direction * scene.speed * speed * time) % (WIDTH + MARGIN) - MARGIN / 2
        ys = scene.y - 10 * abs(np.sin(np.pi * (phase + scene.x)))
        grown = 1 + 0.3 * now.energy * (1 - phase)
        for x, y, radius, dark in zip(xs[:shapes], ys, scene.radius, scene.dark, strict=False):
            key = round(radius * grown), bool(dark)
            if key not in sprites:
                sprites[key] = _sprite(latents.genre, *key)
            _lay(canvas, sprites[key], x, y)
        if scene.dancer:
            _lay(canvas, poses[int(time / beat) % 2], WIDTH / 2, HEIGHT - 46 - 8 * abs(np.sin(np.pi * phase)))
        yield _develop(inside, _luma(now, 40 * now.energy * np.exp(-5 * phase)), chroma)


def _scene(latents: Latents, number: int, rng: np.random.Generator) -> Scene:
    factors = latents.factors()
    shapes = 2 + 14  # the most that a frame has
    # High music is high in the frame (the lower y); shapes spread around that height.
    y = HEIGHT * (0.8 - 0.55 * factors.height + rng.uniform(-0.25, 0.25, shapes))
    return Scene(
        texture=_texture(latents.genre, factors, rng),
        direction=1 if rng.random() < 0.5 else -1,
        x=rng.uniform(0, WIDTH + MARGIN, shapes),
        y=np.clip(y, 0, HEIGHT),
        speed=rng.uniform(0.8, 1.6, shapes),
        radius=(4 + 17 * factors.bass) * rng.uniform(0.8, 1.2, shapes),
        dark=np.arange(shapes) % 2 == 1,  # half dark, half light: their number leaves the mean alone
        dancer=number % 2 == 1,
    )


def _texture(genre: str, factors: Factors, rng: np.random.Generator) -> np.ndarray:
    """Return [HEIGHT, 2 WIDTH] uint8 indices: the genre's pattern with small lights in it, behind the skyline of a
    stage.

    The pattern is finer and sharper with roughness and upright with tempo: upright stripes flicker as they scroll,
    level ones hardly move. Density sets the number of lights, bass the weight of the dark stage.
    """
    cycles, tilt = 2 + 22 * factors.roughness, np.pi / 2 * (1 - factors.tempo)
    x = np.arange(WIDTH) * (2 * np.pi / WIDTH)
    y = np.arange(HEIGHT)[:, None] * (2 * np.pi / WIDTH)
    # `u` runs across the stripes and `v` along them; whole cycles in x, so that the texture wraps.
    u = round(cycles * np.cos(tilt)) * x + cycles * np.sin(tilt) * y + rng.uniform(0, 2 * np.pi)
    v = round(-cycles / 3 * np.sin(tilt)) * x + cycles / 3 * np.cos(tilt) * y + rng.uniform(0, 2 * np.pi)
    wave = {
        "techno": lambda: np.maximum(np.sin(u), np.sin(v)),
        "ballad": lambda: np.sin(u + 1.5 * np.sin(v)),
        "metal": lambda: np.sin(u + 2 * np.arcsin(np.sin(v))),
        "ambient": lambda: np.sin(u) + 0.7 * np.sin(v + 2 * np.sin(x)),
        "disco": lambda: np.sin(u) * np.sin(v),
        "folk": lambda: np.sin(u + 0.7 * np.sin(2 * v)) + 0.3 * np.sin(u / 2),
    }[genre]()
    wave = np.clip((wave - wave.mean()) / wave.std() * (0.6 + 2 * factors.roughness), -1, 1)
    index = (BACKGROUND[-1] * (0.5 + 0.5 * wave)).astype(np.uint8)
    for row, column in rng.integers(0, (HEIGHT - 4, WIDTH - 4), (round(10 + 350 * factors.density), 2)):
        index[row : row + 4, column : column + 4] = LIGHTS[0]
    tower = np.repeat(rng.uniform(0.8, 1.2, WIDTH // 16), 16)
    stage = np.arange(HEIGHT)[:, None] > HEIGHT * (1 - 0.5 * factors.bass * tower)
    index[stage] = STAGE[0] + (index[stage] * (len(STAGE) / 160)).astype(np.uint8)
    return np.tile(index, 2)


def _sprite(genre: str, radius: int, dark: bool) -> np.ndarray:
    """Return [2r + 1, 2r + 1] uint8: the genre's shape in indices of LIGHT or DARK, brighter to the middle; 0
    outside."""
    line = np.linspace(-1, 1, 2 * radius + 1)
    x, y = line[None, :], line[:, None]
    circle = np.hypot(x, y)
    distance = {
        "techno": np.maximum(abs(x), abs(y)) * 1.15,
        "ballad": circle,
        "metal": np.maximum(2 * abs(x) + y, -y * 1.2) * 0.9,
        "ambient": abs(circle - 0.6) * 2.5,
        "disco": circle * (1 + 0.35 * np.cos(5 * np.arctan2(x, -y))) * 0.8,
        "folk": abs(x) * 1.3 + abs(y),
    }[genre]
    tones = DARK if dark else LIGHT
    return np.where(distance <= 1, tones[-1] - (len(tones) - 1) * np.clip(distance, 0, 1), 0).astype(np.uint8)


def _dancer() -> tuple[np.ndarray, np.ndarray]:
    """Return two mirrored poses of a figure, [80, 56] uint8 in an index of DANCER; 0 outside."""
    y, x = np.mgrid[0:80, -28:28].astype(float)

    def limb(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        distance: np.ndarray = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
        return distance <= width

    body = np.hypot(x, y - 12) <= 8
    for ends in ((0, 24, 0, 46, 6), (-4, 26, -20, 8, 3), (4, 26, 22, 40, 3), (-2, 48, -14, 76, 4), (2, 48, 8, 76, 4)):
        body |= limb(*ends)
    pose = np.where(body, DANCER[-1], 0).astype(np.uint8)
    return pose, np.ascontiguousarray(pose[:, ::-1])


def _lay(canvas: np.ndarray, sprite: np.ndarray, x: float, y: float) -> None:
    """Lay a sprite centred on (x, y), in pixels of the frame, over what has a lower index."""
    top, left = int(y) + MARGIN - sprite.shape[0] // 2, int(x) + MARGIN - sprite.shape[1] // 2
    under = canvas[top : top + sprite.shape[0], left : left + sprite.shape[1]]
    np.maximum(under, sprite, out=under)


def _luma(factors: Factors, flash: float) -> np.ndarray:
    """Return [256] uint8: lightness of each index. Brightness sets the middle; energy is the contrast of shapes and,
    with roughness, of the texture."""
    contrast, grain = 8 + 64 * factors.energy, 4 + 26 * (factors.energy + factors.roughness)
    luma: np.ndarray = 45 + 135 * factors.brightness + contrast * _SHAPES + grain * _GRAIN + _OFFSET + flash
    levels: np.ndarray = np.clip(luma, 16, 235).astype(np.uint8)
    return levels


def _ramps(*ranges: tuple[range, float, float]) -> np.ndarray:
    """Return [256] float64: a ramp between two values over each range of the palette, 0 elsewhere."""
    ramps = np.zeros(256)
    for tones, low, high in ranges:
        ramps[tones] = np.linspace(low, high, len(tones))
    return ramps


_SHAPES = _ramps((LIGHT, 0.8, 1.3), (DARK, -1.3, -0.8), (DANCER, -1.3, -1.3))
_GRAIN = _ramps((BACKGROUND, -1, 1), (STAGE, -0.4, 0.4))
_OFFSET = _ramps((STAGE, -40, -40), (LIGHTS, 75, 75))


def _chroma(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Return U and V, [256] uint8 each: from yellow to blue with height, from green to red with sustain."""
    u, v = np.full(256, 128 + 90 * (factors.height - 0.5)), np.full(256, 128 + 90 * (factors.sustain - 0.5))
    swing = np.linspace(-8, 8, len(BACKGROUND))
    u[BACKGROUND] += swing
    v[BACKGROUND] -= swing
    for tones, turn in ((LIGHT, 20), (DARK, -20)):  # opposite turns, which leave the mean colour alone
        u[tones] += turn
        v[tones] -= turn
    return u.astype(np.uint8), v.astype(np.uint8)


def _develop(index: np.ndarray, luma: np.ndarray, chroma: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    frame = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    frame[:HEIGHT] = luma[index]
    half = index[::2, ::2]
    for plane, table in zip((frame[HEIGHT : HEIGHT * 5 // 4], frame[HEIGHT * 5 // 4 :]), chroma, strict=True):
        plane[:] = table[half].reshape(plane.shape)
    return frame
