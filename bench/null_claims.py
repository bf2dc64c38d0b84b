"""One run of each claim that the evaluation and the study make, where nothing is. Reads and writes nothing.

Each function takes simulated artists (bench/null_artists.py) and returns whether something was claimed. What is drawn
for the videos of one artist is alike: embeddings, features, scores and errors of either modality and of each model.
Audio and video share nothing, or two models are equally good.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from bench.null_artists import Artists
from config.model import Config, load
from config.study.length import Length
from config.study.sources import Sources
from eval.bootstrap import metric_intervals, resampled_metrics
from eval.compare import difference
from eval.diagnose.__main__ import of_labels
from eval.diagnose.findings import COMPARISON, below_features
from eval.probe.measure import MeasuredProbe, Scores, compare
from eval.probe.measure import measure as measure_probe
from eval.probe.metrics import resamples
from eval.rankings import Ranking, entry
from eval.ranks import ranks, unit_rows
from eval.similarity import Items, Label, agreement, comparable
from heads.metrics import chance, summary
from study.ablation import differences as ablation
from study.aggregation import inconsistency
from study.aggregation.measure import MeasuredPooling, against
from study.correlation.permutation_test import LEVEL, against_chance, together
from study.fusion.measure import gap
from study.groups import folds
from study.length.linear import fit_linear
from study.length.tables import Key, Measured, differences
from study.relations.measure import synchrony
from study.relations.ridge_tables import read_from
from study.relations.text import predicts
from study.sources import linear

RESAMPLES, DIM, SEGMENTS = 300, 8, 2
ONE_SIDED = 0.025
"""Level of a claim that a 95 % interval lies on one side of chance."""
POOLINGS = FUSIONS = STEPS = 3
"""How many are compared with one at once."""
PERMUTATIONS = 39
"""Of the test of study/sources: with these the test at 5 % is exact."""
SEEDS = 3
"""Trainings of each arm of the ablation, and of heads."""


def segments(videos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors of segments [videos · SEGMENTS, dim] that are alike within each of the videos."""
    repeated = np.repeat(videos, SEGMENTS, axis=0)
    return unit_rows(repeated + 0.5 * rng.standard_normal(repeated.shape))


def retrieval(artists: Artists) -> bool:
    """Return `better_than_chance` of eval/retrieval.py, by segments."""
    audio, video = (segments(artists.draw(DIM), artists.rng) for _ in range(2))
    rank, group = ranks(audio, video)[0], np.repeat(artists.groups, SEGMENTS)
    ranking = Ranking(group, len(rank), [rank], [])
    return bool(entry(ranking, resampled_metrics(rank, group, RESAMPLES, 0))["better_than_chance"])


def retrieval_mrr(artists: Artists) -> bool:
    """Return whether the 95 % interval of MRR misses chance on either side."""
    audio, video = (unit_rows(artists.draw(DIM)) for _ in range(2))
    rank = ranks(audio, video)[0]
    low, high = metric_intervals(resampled_metrics(rank, artists.groups, RESAMPLES, 0), artists.count)["mrr"]
    return not low <= chance(len(rank))["mrr"] <= high


def equal_models(artists: Artists, count: int) -> list[np.ndarray]:
    """Return ranks of `count` equally good models, float64 [videos] each: noisy views of the same latents."""
    latents = artists.draw(DIM)
    models = []
    for _ in range(count):
        audio, video = (unit_rows(latents + artists.draw(DIM)) for _ in range(2))
        models.append(ranks(audio, video)[0])
    return models


def comparison(artists: Artists) -> bool:
    """Return `better` of eval/compare.py for two equally good experiments of one seed, by MRR."""
    a, b = equal_models(artists, 2)
    values = resampled_metrics(a, artists.groups, RESAMPLES, 0) - resampled_metrics(b, artists.groups, RESAMPLES, 0)
    paired = metric_intervals(values, artists.count)["mrr"]
    return difference("mrr", [summary(a)["mrr"]], [summary(b)["mrr"]], paired)["better"] is not None


def poolings(artists: Artists) -> bool:
    """Return `better` of study/aggregation: any of POOLINGS poolings than another, equally good one, by MRR."""
    base, *others = (
        MeasuredPooling([(rank, rank)], artists.groups, settings()) for rank in equal_models(artists, POOLINGS + 1)
    )
    rows = (against(pooling, base, POOLINGS)[0] for pooling in others)
    return any(row["better"] is not None for row in rows)


def hard_videos(artists: Artists) -> bool:
    """Return whether the interval of Spearman's correlation in study/aggregation excludes 0."""
    x, y = artists.draw(2).T
    line = inconsistency.spearman(x, y, artists.groups, RESAMPLES, 0)
    assert line["low"] is not None and line["high"] is not None
    return line["low"] > 0 or line["high"] < 0


def genre_of(artists: Artists) -> np.ndarray:
    """Draw the genre of each artist's videos, int [videos]."""
    return artists.rng.integers(4, size=artists.count)[artists.groups]


def neighbours(artists: Artists) -> bool:
    """Return `better_than_chance` of eval/neighbours.py: embeddings know the artist, who has a genre, and no genre."""
    units = unit_rows(artists.draw(DIM)).astype(np.float32)
    label = Label("genre", list("abcd"), np.eye(4, dtype=bool)[genre_of(artists)])
    items = Items(units, units, np.arange(len(units)), artists.groups, False)
    line = agreement(items, label, "audio", 3, RESAMPLES, 0)
    return line is not None and bool(line["better_than_chance"])


def labels_of_neighbours(artists: Artists) -> bool:
    """Return the same of the diagnosis: `neighbours_without_labels` is absent."""
    labels: list[str | None] = [str(number) for number in genre_of(artists)]
    return bool(of_labels(unit_rows(artists.draw(DIM)), labels, artists.groups, settings())["verdict"] == "absent")


def equal_probes(artists: Artists, count: int, knows: float = 1.0) -> list[MeasuredProbe]:
    """Measure `count` equally good probes of three classes, whose errors are alike within an artist."""
    latents = artists.draw(3)
    truth = np.eye(3, dtype=bool)[latents.argmax(axis=1)]
    times = resamples(artists.count, artists.groups, RESAMPLES, 0)
    measured = []
    for _ in range(count):
        scores = (knows * latents + artists.draw(3)).astype(np.float32)[None]
        probe = Scores(scores, np.full((1, 3), 0.5), [1], DIM)
        measured.append(measure_probe(probe, truth, list("abc"), np.ones(3, bool), times, artists.count, True))
    return measured


def probes(artists: Artists) -> bool:
    """Return `differs` of eval/probe for two equally good representations."""
    a, b = equal_probes(artists, 2)
    return bool(compare(a, b, "auc")["differs"])


def downstream(artists: Artists) -> bool:
    """Return whether `downstream_below_features` of the diagnosis is found in either of two tasks."""
    probed = {}
    for task in ("genre", "tagging"):
        a, b = equal_probes(artists, 2)
        videos = {"train": 4 * len(artists.groups), "test": len(artists.groups)}
        probed[task] = {"videos": videos, "comparisons": [COMPARISON | compare(a, b, "auc")]}
    return bool(below_features(probed)["verdict"] == "found")


def probe_auc(artists: Artists) -> bool:
    """Return whether the interval of the ROC-AUC of a probe that knows nothing misses .5 on either side."""
    (measured,) = equal_probes(artists, 1, knows=0.0)
    auc = measured.entry["metrics"]["auc"]
    return not auc["low"] <= 0.5 <= auc["high"]


def fusions(artists: Artists) -> bool:
    """Return `differs` of study/fusion: any of FUSIONS fusions from another, equally good one."""
    base, *others = equal_probes(artists, FUSIONS + 1)
    return any(gap(probe, base, "auc", FUSIONS)["differs"] for probe in others)


def permutation(artists: Artists) -> bool:
    """Return the permutation test of study/correlation, on videos that were paired at random, with two seeds."""
    p = []
    for seed in range(2):
        audio, video = artists.draw(DIM)[::3], artists.draw(DIM)[::3]  # a third of each artist's videos
        p.append(against_chance([(audio, video[artists.rng.permutation(len(video))])], seed).p)
    return together(p) <= LEVEL


def lengths(artists: Artists) -> bool:
    """Return `q` of study/length: linear heads on two equally good lengths of segments, in folds of whole artists."""
    latents, setting, fold = artists.draw(DIM), length_settings(), folds(artists.groups, 2, 0)
    by_key: dict[Key, Measured] = {}
    for variant in setting.variants:
        audio, video = (latents + artists.draw(DIM) for _ in range(2))
        rank = np.empty(len(fold))
        for number in range(2):
            out = fold == number
            head = fit_linear(audio[~out], video[~out], 4, 0)
            rank[out] = ranks(*comparable(head.embed(0, audio[out]), head.embed(1, video[out])))[0]
        values = resampled_metrics(rank, artists.groups, RESAMPLES, 0)[:, 1]
        by_key[Key.of(variant, 1)] = Measured([float(rank.mean())], values, artists.count, 0.0)
    return bool(differences(setting, {"mean rank": by_key})[0]["p"] <= LEVEL)


def synchronised(artists: Artists) -> bool:
    """Return whether the interval of the gain in synchrony of study/relations excludes 0."""
    values = artists.draw(1 + 5).T
    line = synchrony(values, artists.groups, RESAMPLES, 0)
    return bool(line["low"] > 0 or line["high"] < 0)


def readable(artists: Artists) -> bool:
    """Return whether study/relations calls a descriptor predicted from heads, whose SEEDS trainings are much alike."""
    x, y = artists.draw(DIM), artists.draw(1)
    trainings = [x + 0.3 * artists.draw(DIM) for _ in range(SEEDS)]
    (row,) = read_from(settings(), {"head": trainings}, {"y": y[:, 0]}, artists.groups)
    return predicts(row)


def ablation_arms(artists: Artists, count: int) -> list[ablation.Measured]:
    """Measure `count` equally good arms of study/ablation, each trained with SEEDS seeds, on the same videos."""
    drawn = equal_models(artists, count * SEEDS)
    of_arms = (drawn[arm * SEEDS : (arm + 1) * SEEDS] for arm in range(count))
    return [ablation.measure([rank[None] for rank in of_arm], artists.groups, RESAMPLES, 0) for of_arm in of_arms]


def whole_ablation(artists: Artists) -> bool:
    """Return whether study/ablation calls the last of two equally good arms better or worse than the first."""
    first, last = ablation_arms(artists, 2)
    return float(ablation.difference(last, first, "mrr")["p"] or 0) <= LEVEL


def ablation_steps(artists: Artists) -> bool:
    """Return whether any of STEPS steps between equally good arms counts in study/ablation, after Holm's correction."""
    arms = ablation_arms(artists, STEPS + 1)
    pairs = zip(arms[1:], arms, strict=False)
    return min(ablation.holm([float(ablation.difference(*pair, "mrr")["p"] or 0) for pair in pairs])) <= LEVEL


def sources(artists: Artists) -> bool:
    """Return the primary test of study/sources: audio and video know the artist and share nothing within one.

    With every fifth of an artist's videos, at least two where there are two, few permutations and one assignment to
    folds, for time.
    """
    place = np.arange(len(artists.groups)) - np.searchsorted(artists.groups, artists.groups)
    taken = np.flatnonzero((place < 2) | (place % 5 == 0))
    groups = artists.groups[taken]
    pair = linear.Pair(artists.draw(DIM)[taken], artists.draw(DIM)[taken], sources_settings())
    pairings = linear.within_sources(groups, PERMUTATIONS, artists.rng)
    return linear.p_value(pair.ranks(groups, pairings, [0]).mean(axis=1)) <= LEVEL


CLAIMS: dict[str, tuple[Callable[[Artists], bool], float]] = {
    "retrieval: median rank better than chance": (retrieval, ONE_SIDED),
    "retrieval: interval of MRR misses chance": (retrieval_mrr, LEVEL),
    "comparison of experiments: MRR": (comparison, LEVEL),
    "neighbours: genre better than chance": (neighbours, ONE_SIDED),
    "diagnosis: neighbours share labels": (labels_of_neighbours, ONE_SIDED),
    "probes: representations differ": (probes, LEVEL),
    "diagnosis: probes below those of the features, 2 tasks": (downstream, LEVEL),
    "probes: interval of ROC-AUC misses .5": (probe_auc, LEVEL),
    "correlation: permutation test, 2 seeds": (permutation, LEVEL),
    f"aggregation: any of {POOLINGS} poolings": (poolings, LEVEL),
    "aggregation: hard videos (Spearman)": (hard_videos, LEVEL),
    f"fusion: any of {FUSIONS} fusions": (fusions, LEVEL),
    "length: p ≤ .05": (lengths, LEVEL),
    "relations: synchrony": (synchronised, LEVEL),
    "relations: descriptor readable": (readable, ONE_SIDED),
    "ablation: the last arm and the first": (whole_ablation, LEVEL),
    f"ablation: any of {STEPS} steps": (ablation_steps, LEVEL),
    "sources: permutation within sources": (sources, LEVEL),
}
"""{what: (the claim, how often it may be made)}."""


SKEWED = {"retrieval: interval of MRR misses chance"}
"""Not claims but coverage: at chance MRR rests on few queries of low rank, and its interval is too short."""


@cache
def settings() -> Config:
    """Return a configuration with few resamples; nothing else of it is read."""
    return load({"results": "results", "videos": "videos.csv", "eval": {"bootstrap": RESAMPLES}})


@cache
def length_settings() -> Length:
    """Return the study of two lengths with one segment each."""
    variants = [{"seconds": 3, "count": 1}, {"seconds": 5, "count": 1}]
    return Length.model_validate({"variants": variants, "counts": [1], "totals": [], "folds": 2})


@cache
def sources_settings() -> Sources:
    """Return the question `sources` with few choices of its head, for time."""
    return Sources(folds=3, inner_folds=2, shrinkages=[0.3, 0.9])
