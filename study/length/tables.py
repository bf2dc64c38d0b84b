"""The measures of every length and number of segments, and their paired differences.

Reads the manifest and the embeddings that study/length/train.py wrote; writes nothing. All lengths have the same
videos, folds and resamples, so differences are paired by video and by seed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations, product

import numpy as np
from scipy.stats import false_discovery_control, t

from config.cli import UserError
from config.model import Config
from config.study.length import Length, Variant
from data.manifest import read_manifest
from eval.bootstrap import percentile_interval, resampled_metrics
from eval.probe.metrics import resamples
from eval.ranks import ranks
from eval.seeds import mean_interval
from eval.similarity import comparable
from heads.checkpoint import read_tensors
from heads.metrics import METRICS, chance, summary
from study.answer import Row
from study.groups import folds
from study.length.probing import Target, factors, genres, predicted, score
from study.length.train import FITTED, VERSION, Variants, drawn, pooled, trained_path

RANKS = {"median rank": "median", "mean rank": "mean", "recall at 1": "recall_at_1"}
"""{measure: its name in heads.metrics.METRICS}."""
EQUAL = ", equal training"
"""Appended to the names of measures by heads that were fitted on equally many pairs at all lengths."""
STARTS = {"": "", "random": " at random", "keyframe": " at keyframes"}
LEVEL = 0.05


@dataclass(frozen=True, order=True)
class Key:
    """What is measured: seconds a segment, segments a video, and where they start, if the variant says that."""

    seconds: float
    count: int
    start: str = ""

    @classmethod
    def of(cls, variant: Variant, count: int) -> Key:
        """Return the key of a variant with a number of its segments."""
        return cls(variant.seconds, count, variant.start or "")


@dataclass(frozen=True)
class Measured:
    """A measure: its value with each seed, and float64 [resamples] in each bootstrap resample (mean over the seeds).

    `groups` were resampled.
    """

    seeds: list[float]
    resampled: np.ndarray
    groups: int
    chance: float

    @property
    def value(self) -> float:
        return float(np.mean(self.seeds))


Measures = dict[str, dict[Key, Measured]]


def bounds(measured: Measured) -> dict[str, float]:
    """Compute the 95 % percentile interval of a measure."""
    low, high = percentile_interval(measured.resampled, measured.groups)
    return {"low": low, "high": high}


def over_seeds(values: list[float]) -> dict[str, float | None]:
    """Compute the 95 % t-interval of the mean over seeds; None if there is one seed."""
    low, high = mean_interval(values) or (None, None)
    return {"seeds_low": low, "seeds_high": high}


def retrieval(config: Config, variants: Variants) -> Measures:
    """Measure the ranks of whole videos, each among the videos of its fold, as means over both directions."""
    settings, videos, groups = config.study.length, len(variants.names), variants.groups
    by_chance, measures = chance(round(videos / settings.folds)), Measures()
    for variant in settings.variants:
        path = trained_path(config, variant)
        if not path.exists():
            raise UserError(f"{path} does not exist; run `snakemake study …` or `python -m study.length.train`")
        tensors, about = read_tensors(path)
        of_now = variants.keys[variant.name], variants.contents[variant.name]
        # Earlier versions did not note the features: they are taken for the same.
        if about["videos"] != variants.names or (about["keys"], about.get("features", of_now[1])) != of_now:
            raise UserError(f"{path} is of other features than the caches have now; run `snakemake study …`")
        if about["version"] != VERSION or about["groups"] != variants.groups.tolist():
            raise UserError(f"{path} has other folds than whole groups make now; run `python -m study.length.train`")
        for kind, count in product(FITTED, settings.counts_of(variant)):
            values, seeds = [], []
            for seed in config.study.seeds:
                audio, video = (tensors[f"{kind}/{count}/{seed}/{name}"].numpy() for name in ("audio", "video"))
                both = _ranks(audio, video, folds(variants.groups, settings.folds, seed))
                values += [resampled_metrics(rank, groups, config.eval.bootstrap, config.eval.seed) for rank in both]
                seeds.append([summary(rank) for rank in both])
            for name, key in RANKS.items():
                by_seed = [float(np.mean([direction[key] for direction in pair])) for pair in seeds]
                spread = np.mean(values, axis=0)[:, list(METRICS).index(key)]
                by_key = measures.setdefault(name + (EQUAL if kind == "equal" else ""), {})
                by_key[Key.of(variant, count)] = Measured(by_seed, spread, int(groups.max()) + 1, by_chance[key])
    return measures


def _ranks(audio: np.ndarray, video: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the ranks in both directions, each among the videos of its fold: float64 [2, videos]."""
    both = np.empty((2, len(fold)))
    for number in range(fold.max() + 1):
        both[:, fold == number] = ranks(*comparable(audio[fold == number], video[fold == number]))
    return both


def readings(config: Config, variants: Variants) -> Measures:
    """Score linear probes of each backbone's features, averaged over the drawn segments."""
    settings, videos = config.study.length, len(variants.names)
    groups = int(variants.groups.max()) + 1
    times = resamples(groups, variants.groups, config.eval.bootstrap, config.eval.seed)
    once = np.ones((videos, 1), np.float32)
    measures: Measures = {}
    for side, backbone, features in (
        ("sound", config.heads.audio, variants.audio),
        ("picture", config.heads.video, variants.video),
    ):
        for target in targets(config, variants, side):
            by_key = measures.setdefault(f"{backbone}: {target.name}, {target.measure}", {})
            for variant in settings.variants:
                for count in settings.counts_of(variant):
                    all_predictions = [
                        predicted(
                            pooled(features[variant.name], drawn(videos, variant.count, count, seed)),
                            target,
                            folds(variants.groups, settings.folds, seed),
                        )
                        for seed in config.study.seeds
                    ]
                    values = np.mean([score(predictions, target, times) for predictions in all_predictions], axis=0)
                    by_seed = [float(score(predictions, target, once)[0]) for predictions in all_predictions]
                    by_key[Key.of(variant, count)] = Measured(by_seed, values, groups, target.chance)
    return measures


def targets(config: Config, variants: Variants, side: str) -> list[Target]:
    """List what is probed: the planted factors of one modality of rendered videos, and the genre where it is known."""
    table = read_manifest(config.paths.manifest, ["video_id", "genre"])
    genre = dict(zip(table["video_id"].to_pylist(), table["genre"].to_pylist(), strict=True))
    modality = {"sound": "audio", "picture": "video"}[side]  # the names in the answer's tables, and the renderer's
    planted = [factors(config.render, variants.names, modality)] if config.render else []
    labelled = genres([genre[name] for name in variants.names], 2 * config.study.length.folds)
    return planted + ([labelled] if labelled else [])


def rows(measures: Measures) -> list[Row]:
    """Make one row for each measure, length and number."""
    return [
        {"measure": name, **asdict(key), "seconds_a_video": key.seconds * key.count, "value": measured.value}
        | {**bounds(measured), **over_seeds(measured.seeds), "chance": measured.chance}
        for name, by_key in measures.items()
        for key, measured in sorted(by_key.items())
    ]


def compared(settings: Length) -> list[tuple[str, float, Key, Key]]:
    """List the comparisons: (kind, number or seconds, first, second); longer or more segments come second.

    So do variants of the same length that start elsewhere.
    """
    ordered = sorted(settings.lengths, key=lambda variant: variant.seconds)
    pairs: list[tuple[str, float, Key, Key]] = []
    for first, second in combinations(ordered, 2):
        for count in settings.counts:
            if count <= min(first.count, second.count):
                pairs.append(("equal number", count, Key.of(first, count), Key.of(second, count)))
        for total in settings.totals:
            counts = [settings.count_for(total, variant) for variant in (first, second)]
            if counts[0] is not None and counts[1] is not None:
                pairs.append(("equal seconds", total, Key.of(first, counts[0]), Key.of(second, counts[1])))
    of_length = {variant.seconds: variant for variant in ordered}
    for other in settings.variants:
        first = of_length[other.seconds]
        if other is not first:
            both = sorted(set(settings.counts_of(first)) & set(settings.counts_of(other)))
            pairs += [("starts", count, Key.of(first, count), Key.of(other, count)) for count in both]
    several = [variant for variant in ordered if len(settings.counts_of(variant)) > 1]
    return pairs + [("more segments", *_ends(settings, variant)) for variant in several]


def _ends(settings: Length, variant: Variant) -> tuple[float, Key, Key]:
    counts = settings.counts_of(variant)
    return variant.seconds, Key.of(variant, counts[0]), Key.of(variant, counts[-1])


def differences(settings: Length, measures: Measures) -> list[Row]:
    """Make one row for each measure and comparison: `other` - `one`, with its intervals.

    Trainings of different folds share videos, so a difference varies more than its resamples: their variance is
    multiplied by 1 + k / (k - 1) for k folds (Nadeau & Bengio 2003, Machine Learning 52(3)), and by n / (n - 1) for n
    groups. `low` and `high` are the interval of Student's t with n - 1 degrees of freedom, `p` is two-sided, `q` is
    corrected for all rows (Benjamini & Hochberg 1995). `shown`: q < 0.05 and all seeds agree in sign.
    """
    wider = (1 + settings.folds / (settings.folds - 1)) ** 0.5
    lines: list[Row] = []
    for name, by_key in measures.items():
        for kind, amount, first, second in compared(settings):
            one, other = by_key[first], by_key[second]
            freedom = one.groups - 1
            spread = wider * float((other.resampled - one.resampled).std()) * (one.groups / freedom) ** 0.5
            value, reach = other.value - one.value, float(t.isf(LEVEL / 2, freedom)) * spread
            seeds = [longer - shorter for shorter, longer in zip(one.seeds, other.seeds, strict=True)]
            row: Row = {"measure": name, "comparison": kind, "at": amount, "one": words(first), "other": words(second)}
            row |= {"value": value, "low": value - reach, "high": value + reach, **over_seeds(seeds)}
            lines.append(row | {"p": _p(value, spread, freedom), "agree": len(set(np.sign(seeds))) == 1})
    adjusted = false_discovery_control([row["p"] for row in lines])
    for row, q in zip(lines, adjusted, strict=True):
        row |= {"q": float(q), "shown": bool(q < LEVEL and row.pop("agree"))}
    return lines


def _p(value: float, spread: float, freedom: int) -> float:
    """Return the two-sided p of a difference with this spread, by Student's t."""
    return float(2 * t.sf(abs(value) / spread, freedom)) if spread > 0 else float(value == 0)


def words(key: Key) -> str:
    """Write a key as `12 × 3 s`, and where it starts."""
    return f"{key.count} × {key.seconds:g} s" + STARTS[key.start]
