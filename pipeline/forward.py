"""Run forward passes over decoded segments while decoding goes on. Reads and writes nothing.

How a job's cores are shared (`layout`): with one core, decoding and the networks take turns. With n cores, n forward
passes run side by side in threads, each on one core, beside n/2 decoding processes that work ahead. That is more than
n in all, on purpose: the slower of the two gets the cores that the other leaves, whatever the codec, which no
fixed split does. With one core a pass, features do not depend on the number of cores, to the bit. On a GPU two passes
take turns, so that the next one's upload is under way while one computes, and all cores decode.

Several networks may look at what was decoded once. They share the job's cores or its GPU; the groups of segments that
one of them gets are those that it would get alone.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

from pipeline.backbones.base import Backbone
from pipeline.readers import MediaError

Outcome = np.ndarray | MediaError
log = logging.getLogger("forward")


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
    """Wall time (s) spent waiting for decoded segments (`decode`) and for the networks (`network`)."""

    def __init__(self) -> None:
        self.decode = self.network = 0.0

    def shares(self) -> tuple[float, float]:
        """Return the shares of decoding and networks in the time so far."""
        total = max(self.decode + self.network, 1e-9)
        return self.decode / total, self.network / total

    def __str__(self) -> str:
        decode, network = self.shares()
        return f"{decode:.0%} of the time waiting for decoding, {network:.0%} for the network"


@dataclass
class Network:
    """A network, how many segments share a forward pass of it, and the answers that wait for one: (row, segments)."""

    backbone: Backbone
    batch: int
    waiting: list[tuple[int, Outcome]] = field(default_factory=list)

    def group(self, row: int, answer: Outcome) -> list[tuple[int, Outcome]]:
        """Take an answer; return a group with at least `batch` segments if there is one now."""
        self.waiting.append((row, answer))
        size = sum(len(arrays) for _, arrays in self.waiting if isinstance(arrays, np.ndarray))
        # Failures alone need no network and wait for nobody.
        return self.rest() if size >= self.batch or size == 0 else []

    def rest(self) -> list[tuple[int, Outcome]]:
        """Return the answers that still wait."""
        group, self.waiting = self.waiting, []
        return group


Result = tuple[str, int, Outcome]
"""Name of a network, row, and features [segments, dim] float16 or a MediaError."""


def outcomes(
    decoded: Iterator[tuple[int, dict[str, Outcome]]], networks: Mapping[str, Network], passes: int, meter: Meter
) -> Iterator[Result]:
    """Yield the results of all networks as they come.

    `decoded` gives for a row {name of a network: its decoded segments or a MediaError}. Segments of several videos
    share a forward pass. `passes` of them run at a time, whichever network they are for, and one more waits.
    """
    groups = _groups(decoded, networks, meter)
    if passes == 0:
        for name, group in groups:
            with _Clock(meter, "network"):
                results = _forward(name, group, networks[name].backbone)
            yield from results
        return
    running: set[Future[list[Result]]] = set()
    with ThreadPoolExecutor(passes, "forward") as executor:
        try:
            for name, group in groups:
                running.add(executor.submit(_forward, name, group, networks[name].backbone))
                yield from _finished(running, passes, meter)
            yield from _finished(running, 0, meter)
        finally:
            for future in running:
                future.cancel()


def _finished(running: set[Future[list[Result]]], at_most: int, meter: Meter) -> Iterator[Result]:
    """Yield the results of the passes that have ended, and wait until no more than `at_most` are left."""
    while True:
        with _Clock(meter, "network"):
            ended = wait(running, 0 if len(running) <= at_most else None, FIRST_COMPLETED).done
        if not ended:
            return
        for future in ended:
            running.discard(future)
            yield from future.result()


def _groups(
    decoded: Iterator[tuple[int, dict[str, Outcome]]], networks: Mapping[str, Network], meter: Meter
) -> Iterator[tuple[str, list[tuple[int, Outcome]]]]:
    """Yield for a network a group of answers in order, with at least its batch of segments; the last may have fewer."""
    while True:
        with _Clock(meter, "decode"):
            item = next(decoded, None)
        if item is None:
            break
        row, answers = item
        for name, answer in answers.items():
            if group := networks[name].group(row, answer):
                yield name, group
    for name, network in networks.items():
        if group := network.rest():
            yield name, group


class _Clock:
    """Adds the wall time of a `with` block to one of the meter's sums."""

    def __init__(self, meter: Meter, name: str) -> None:
        self.meter, self.name = meter, name

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        setattr(self.meter, self.name, getattr(self.meter, self.name) + time.monotonic() - self.began)


def _forward(name: str, group: list[tuple[int, Outcome]], backbone: Backbone) -> list[Result]:
    """Return the results of a group of answers of which some may be failures."""
    arrays = [answer for _, answer in group if isinstance(answer, np.ndarray)]
    features: Iterator[Outcome] = iter(())
    if arrays:
        try:
            whole = _features(backbone, np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
            ends = np.cumsum([len(array) for array in arrays])
            features = iter(np.split(whole, ends[:-1]))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            count = sum(len(array) for array in arrays)
            log.warning("%s: no memory for %d segments at a time (%s); one by one", name, count, _line(error))
            features = (_one_by_one(backbone, array) for array in arrays)
    results: list[Result] = []
    for row, answer in group:
        if isinstance(answer, np.ndarray):
            answer = next(features)
            if isinstance(answer, np.ndarray) and not np.isfinite(answer).all():
                answer = MediaError("not_finite", "the network gave numbers that float16 cannot hold")
        results.append((name, row, answer))
    return results


def _features(backbone: Backbone, segments: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return backbone.features(segments).astype(np.float16)


def _one_by_one(backbone: Backbone, segments: np.ndarray) -> Outcome:
    """Return the features of a video for whose segments there is no memory at a time."""
    try:
        return np.concatenate([_features(backbone, segments[i : i + 1]) for i in range(len(segments))])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return MediaError("out_of_memory", f"there is no memory for one segment in the network: {_line(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the processor or the GPU had no memory left. What torch has kept on the GPU for later is freed."""
    text = str(error)
    # torch raises a plain RuntimeError on the CPU, and where one of CUDA's libraries could not allocate.
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    ):
        return False
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return True


def _line(error: BaseException) -> str:
    """Return the beginning of an error's text on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
