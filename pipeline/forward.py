"""Run forward passes over decoded segments while decoding goes on. Reads and writes nothing.

How a job's cores are shared (`layout`): with one core, decoding and the network take turns. With n cores, n forward
passes run side by side in threads, each on one core, beside n/2 decoding processes that work ahead. That is more than
n in all, on purpose: the slower of the two gets the cores that the other leaves, whatever the codec, which no
fixed split does. With one core a pass, features do not depend on the number of cores, to the bit. On a GPU two passes
take turns, so that the next one's upload is under way while one computes, and all cores decode.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pipeline.backbones.base import Backbone
from pipeline.readers import MediaError

Outcome = np.ndarray | MediaError


@dataclass(frozen=True)
class Layout:
    """How a job's cores are used."""

    decoders: int
    """Decoding processes."""
    ahead: int
    """Videos that may be decoded, or wait decoded, beyond the one that is needed next."""
    passes: int
    """Forward passes at a time; 0: in turns with decoding."""
    threads: int
    """Cores of one forward pass."""


def layout(cores: int, device: str, engine_threads: bool = False) -> Layout:
    """Return the layout for a job with `cores` cores on `cpu` or `cuda`.

    `engine_threads`: the network cannot run several passes at a time and uses threads of its own instead (essentia).
    """
    if device != "cpu":
        return Layout(cores, 2 * cores, 2, 1)
    if cores == 1:
        return Layout(1, 0, 0, 1)
    decoders = max(1, cores // 2)
    if engine_threads:
        return Layout(decoders, 2 * decoders, 1, cores)
    return Layout(decoders, 2 * decoders, cores, 1)


class Meter:
    """Wall time (s) spent waiting for decoded segments (`decode`) and for the network (`network`)."""

    def __init__(self) -> None:
        self.decode = self.network = 0.0

    def shares(self) -> tuple[float, float]:
        """Return the shares of decoding and network in the time so far."""
        total = max(self.decode + self.network, 1e-9)
        return self.decode / total, self.network / total

    def __str__(self) -> str:
        decode, network = self.shares()
        return f"{decode:.0%} of the time waiting for decoding, {network:.0%} for the network"


def outcomes(
    decoded: Iterator[tuple[int, Outcome]], backbone: Backbone, batch: int, passes: int, meter: Meter
) -> Iterator[tuple[int, Outcome]]:
    """Yield (row, features [segments, dim] float16 or a MediaError), in the order of `decoded`.

    Segments of several videos share a forward pass of up to `batch`. `passes` of them run at a time, one more waits.
    """
    if passes == 0:
        for group in _groups(decoded, batch, meter):
            with _Clock(meter, "network"):
                results = _forward(group, backbone)
            yield from results
        return
    running: deque[Future[list[tuple[int, Outcome]]]] = deque()
    with ThreadPoolExecutor(passes, "forward") as executor:
        try:
            for group in _groups(decoded, batch, meter):
                running.append(executor.submit(_forward, group, backbone))
                while running and (len(running) > passes or running[0].done()):
                    with _Clock(meter, "network"):
                        results = running.popleft().result()
                    yield from results
            while running:
                with _Clock(meter, "network"):
                    results = running.popleft().result()
                yield from results
        finally:
            for future in running:
                future.cancel()


def _groups(decoded: Iterator[tuple[int, Outcome]], batch: int, meter: Meter) -> Iterator[list[tuple[int, Outcome]]]:
    """Yield groups of consecutive answers with at least `batch` segments each; the last group may have fewer."""
    group: list[tuple[int, Outcome]] = []
    size = 0
    while True:
        with _Clock(meter, "decode"):
            item = next(decoded, None)
        if item is None:
            break
        group.append(item)
        size += 0 if isinstance(item[1], MediaError) else len(item[1])
        if size >= batch or size == 0:  # failures alone need no network and wait for nobody
            yield group
            group, size = [], 0
    if group:
        yield group


class _Clock:
    """Adds the wall time of a `with` block to one of the meter's sums."""

    def __init__(self, meter: Meter, name: str) -> None:
        self.meter, self.name = meter, name

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        setattr(self.meter, self.name, getattr(self.meter, self.name) + time.monotonic() - self.began)


def _forward(group: list[tuple[int, Outcome]], backbone: Backbone) -> list[tuple[int, Outcome]]:
    arrays = [answer for _, answer in group if isinstance(answer, np.ndarray)]
    features = np.empty((0, backbone.dim), np.float16)
    if arrays:
        with np.errstate(over="ignore"):
            features = backbone.features(np.concatenate(arrays) if len(arrays) > 1 else arrays[0]).astype(np.float16)
    results: list[tuple[int, Outcome]] = []
    for row, answer in group:
        if isinstance(answer, np.ndarray):
            mine, features = features[: len(answer)], features[len(answer) :]
            finite = bool(np.isfinite(mine).all())
            answer = mine if finite else MediaError("decode_error", "the network gave numbers that float16 cannot hold")
        results.append((row, answer))
    return results
