"""Everything that is measured of segments of every length and number, and the differences. Reads the variants' caches
and manifests and what heads/study/length.py wrote; writes nothing.

All lengths have the same videos, folds and resamples, so differences are paired by video and by seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
from scipy.stats import false_discovery_control, norm

from config.cli import UserError
from config.model import Config
from config.paths import Paths
from config.study import Length, Variant
from data.manifest import read_manifest
from eval.bootstrap import STATISTICS, resampled
from eval.probe.metrics import resamples
from eval.ranks import chance, ranks, summary
from eval.seeds import mean_interval
from eval.study.answer import Row
from eval.study.probing import Target, factors, genres, predicted, score
from heads.checkpoint import read_tensors
from heads.study.length import FITTED, Looks, drawn, fold_of, pooled, trained_path

RANKS = {"median rank": "median", "mean rank": "mean", "recall at 1": "recall_at_1"}
"""Measures of retrieval by their names in eval.ranks.summary."""
EQUAL = ", equal training"
"""Added to the names of those with heads that learn from as many pairs at all lengths."""
LEVEL = 0.05
Z = float(norm.isf(LEVEL / 2))
Key = tuple[float, int]
"""Seconds of a segment, segments a video."""


@dataclass(frozen=True)
class Measured:
    """A measure: its value with each seed, and in each bootstrap resample of the videos (mean over the seeds)."""

    seeds: list[float]
    resampled: np.ndarray
    chance: float

    @property
    def value(self) -> float:
        return float(np.mean(self.seeds))


Measures = dict[str, dict[Key, Measured]]


def bounds(values: np.ndarray) -> dict[str, float]:
    """95 % percentile interval of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def over_seeds(values: list[float]) -> dict[str, float | None]:
    """95 % t-interval of the mean over seeds; None of one seed."""
    low, high = mean_interval(values) or (None, None)
    return {"seeds_low": low, "seeds_high": high}


def retrieval(config: Config, looks: Looks) -> Measures:
    """Ranks of whole videos, each among the videos of its fold, means over both directions."""
    settings, videos = config.study.length, len(looks.names)
    guess, found = chance(round(videos / settings.folds)), Measures()
    for variant in settings.variants:
        path = trained_path(config, variant)
        if not path.exists():
            raise UserError(f"{path} does not exist; run `snakemake study …` or `python -m heads.study.length`")
        tensors, about = read_tensors(path)
        if about["videos"] != looks.names or about["keys"] != looks.keys[variant.name]:
            raise UserError(f"{path} is of other features than the caches have now; run `snakemake study …`")
        for kind, count in product(FITTED, settings.counts_of(variant)):
            values, seeds = [], []
            for seed in config.study.seeds:
                audio, video = (tensors[f"{kind}/{count}/{seed}/{side}"].numpy() for side in ("audio", "video"))
                each = _ranks(audio, video, fold_of(videos, settings.folds, seed))
                values += [resampled(rank, np.arange(videos), config.eval.bootstrap, config.eval.seed) for rank in each]
                seeds.append([summary(rank) for rank in each])
            for name, key in RANKS.items():
                by_seed = [float(np.mean([direction[key] for direction in pair])) for pair in seeds]
                spread = np.mean(values, axis=0)[:, STATISTICS.index(key)]
                here = found.setdefault(name + (EQUAL if kind == "equal" else ""), {})
                here[variant.seconds, count] = Measured(by_seed, spread, guess[key])
    return found


def _ranks(audio: np.ndarray, video: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Float64 [2, videos]: both directions' ranks, each video's among those of its fold."""
    found = np.empty((2, len(fold)))
    for held in range(fold.max() + 1):
        found[:, fold == held] = ranks(audio[fold == held], video[fold == held])
    return found


def readings(config: Config, looks: Looks) -> Measures:
    """What a linear probe reads of each backbone's features, means over the drawn segments."""
    settings, videos = config.study.length, len(looks.names)
    times = resamples(videos, np.arange(videos), config.eval.bootstrap, config.eval.seed)
    once = np.ones((videos, 1), np.float32)
    found: Measures = {}
    for side, backbone, features in _sides(config, looks):
        for target in targets(config, looks, side):
            here = found.setdefault(f"{backbone}: {target.name}, {target.measure}", {})
            for variant in settings.variants:
                for count in settings.counts_of(variant):
                    each = [
                        predicted(
                            pooled(features[variant.name], drawn(videos, variant.count, count, seed)),
                            target,
                            fold_of(videos, settings.folds, seed),
                        )
                        for seed in config.study.seeds
                    ]
                    values = np.mean([score(guess, target, times) for guess in each], axis=0)
                    by_seed = [float(score(guess, target, once)[0]) for guess in each]
                    here[variant.seconds, count] = Measured(by_seed, values, target.chance)
    return found


def _sides(config: Config, looks: Looks) -> list[tuple[str, str, dict[str, np.ndarray]]]:
    return [("sound", config.heads.audio, looks.sound), ("picture", config.heads.video, looks.picture)]


def targets(config: Config, looks: Looks, side: str) -> list[Target]:
    """What can be read of one side: the planted factors of rendered videos, and the genre where it is known."""
    table = read_manifest(Paths(Path(config.results)).manifest, ["video_id", "genre"])
    genre = dict(zip(table["video_id"].to_pylist(), table["genre"].to_pylist(), strict=True))
    found = [factors(config.render, looks.names, side)] if config.render else []
    known = genres([genre[name] for name in looks.names], 2 * config.study.length.folds)
    return found + ([known] if known else [])


def rows(measures: Measures) -> list[Row]:
    """One row a measure, length and number."""
    return [
        {"measure": name, "seconds": seconds, "count": count, "seconds_a_video": seconds * count, "value": m.value}
        | {**bounds(m.resampled), **over_seeds(m.seeds), "chance": m.chance}
        for name, by_key in measures.items()
        for (seconds, count), m in sorted(by_key.items())
    ]


def compared(settings: Length) -> list[tuple[str, float, Key, Key]]:
    """What is compared: (how, at, one, other), the longer segments or the more of them second."""
    ordered = sorted(settings.variants, key=lambda v: v.seconds)
    found: list[tuple[str, float, Key, Key]] = []
    for one, other in combinations(ordered, 2):
        for count in settings.counts:
            if count <= min(one.count, other.count):
                found.append(("equal number", count, (one.seconds, count), (other.seconds, count)))
        for total in settings.totals:
            a, b = (settings.count_for(total, v) for v in (one, other))
            if a is not None and b is not None:
                found.append(("equal seconds", total, (one.seconds, a), (other.seconds, b)))
    return found + [("more segments", *_ends(settings, v)) for v in ordered if len(settings.counts_of(v)) > 1]


def _ends(settings: Length, variant: Variant) -> tuple[float, Key, Key]:
    counts = settings.counts_of(variant)
    return variant.seconds, (variant.seconds, counts[0]), (variant.seconds, counts[-1])


def differences(settings: Length, measures: Measures) -> list[Row]:
    """One row a measure and comparison: other - one, with its intervals.

    Trainings of different folds share videos, so a difference varies more than its resamples say: their variance is
    multiplied by 1 + k / (k - 1) for k folds (Nadeau & Bengio 2003, Machine Learning 52(3)); `low` and `high` are the
    normal interval, `p` is two-sided, `q` corrected for all rows (Benjamini & Hochberg 1995). `shown`: q < 0.05, and
    all seeds agree in sign.
    """
    wider = (1 + settings.folds / (settings.folds - 1)) ** 0.5
    found: list[Row] = []
    for name, by_key in measures.items():
        for how, at, one, other in compared(settings):
            a, b = by_key[one], by_key[other]
            value, spread = b.value - a.value, wider * float((b.resampled - a.resampled).std())
            seeds = [y - x for x, y in zip(a.seeds, b.seeds, strict=True)]
            row: Row = {"measure": name, "comparison": how, "at": at, "one": words(one), "other": words(other)}
            row |= {"value": value, "low": value - Z * spread, "high": value + Z * spread, **over_seeds(seeds)}
            found.append(row | {"p": _p(value, spread), "agree": len(set(np.sign(seeds))) == 1})
    adjusted = false_discovery_control([row["p"] for row in found])
    for row, q in zip(found, adjusted, strict=True):
        row |= {"q": float(q), "shown": bool(q < LEVEL and row.pop("agree"))}
    return found


def _p(value: float, spread: float) -> float:
    """Two-sided p of a difference that is normal with this spread."""
    return float(2 * norm.sf(abs(value) / spread)) if spread > 0 else float(value == 0)


def words(key: Key) -> str:
    """`12 × 3 s`."""
    return f"{key[1]} × {key[0]:g} s"
