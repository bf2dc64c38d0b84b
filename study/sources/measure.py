"""Measure `sources`: do audio and video of real clips go together beyond the look and the sound of their sources?

    python -m study.sources.measure --config RESULTS/config.json [--threads 2]

Reads the cache, the manifest and study/sources/trained.safetensors; writes study/sources.json. The protocol, with its
one primary analysis, is in study/sources/text.py.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from config.cli import parser, progress, run
from config.model import Config, read
from config.processes import parallel
from data.groups import renumbered
from eval.bootstrap import few_groups, percentile_bounds, percentile_interval
from study.answer import Answer, Row, sentences, write_answer
from study.correlation.permutation_test import rank_matrices
from study.groups import one_each, times_drawn
from study.sources.collection import Collection, fewest_sources, load, pairs_of
from study.sources.linear import CHANCE, Pair, freely, p_value, shifted, within_sources
from study.sources.simulated import simulate
from study.sources.text import LEVEL, LIMITS, METHOD, QUESTION, TITLE, findings, label
from study.trainings import Trained, read_trained

log = logging.getLogger("sources")
POWER_PERMUTATIONS = 39
"""Permutations of each simulated collection, which has one assignment to folds."""
PERCENT = 100.0
ENDS = ("low", "high")


@dataclass(frozen=True)
class Measured:
    """Normalised ranks of positives, 0 first to 1 last.

    `ranks`: of the true pairing, float64 [videos]. `means`: over the videos, of the true pairing and after it of every
    random one, float64 [1 + permutations].
    """

    ranks: np.ndarray
    means: np.ndarray


def ranked(pair: Pair, units: np.ndarray, pairings: np.ndarray, config: Config) -> Measured:
    """Rank a pair of backbones out of fold, by the true and by random pairings."""
    seeds = [config.eval.seed + repeat for repeat in range(config.study.sources.repeats)]
    ranks = pair.ranks(units, pairings, seeds)
    return Measured(ranks[0], ranks.mean(axis=1))


def row_of(name: str, measured: Measured, sources: np.ndarray, config: Config, **about: object) -> Row:
    """Return an analysis as a row of the table: ranks in percent of the gallery; the interval is over sources."""
    times = times_drawn(np.unique(sources, return_inverse=True)[1], config.eval.bootstrap, config.eval.seed)
    count = len(np.unique(sources))
    low, high = percentile_interval(times @ measured.ranks / times.sum(axis=1), count)
    by_chance = measured.means[1:]
    several = np.bincount(sources)[sources] > 1
    row: Row = {"analysis": name, **about}
    row |= {"videos": len(sources), "sources": count}
    row |= {"videos_with_siblings": int(several.sum())}
    row |= {"rank_percent": PERCENT * float(measured.ranks.mean())}
    row |= {"rank_percent_low": PERCENT * low, "rank_percent_high": PERCENT * high}
    row |= {"permuted_percent": PERCENT * float(by_chance.mean())}
    ends = percentile_bounds(by_chance)
    row |= {f"permuted_percent_{end}": PERCENT * float(value) for end, value in zip(ENDS, ends, strict=True)}
    return row | {"permutations": len(by_chance), "p": p_value(measured.means)}


def pair_rows(config: Config, collection: Collection) -> list[Row]:
    """Rank every pair of backbones with the linear head on held-out sources: the primary analysis first."""
    settings, sources, rows = config.study.sources, collection.sources, []
    for number, (audio, video) in enumerate(pairs_of(config)):
        count = settings.secondary_permutations if number else settings.permutations
        pair = Pair(collection.means[audio], collection.means[video], settings)
        pairings = within_sources(sources, count, np.random.default_rng(config.eval.seed))
        about = {"primary": not number, "audio": audio, "video": video, "head": "linear"}
        about |= {"folds": "sources", "permuted": "within sources"}
        name = "primary" if not number else "other backbones"
        rows.append(row_of(name, ranked(pair, sources, pairings, config), sources, config, **about))
        log.info("%s and %s", audio, video)
    return rows


def part_rows(config: Config, collection: Collection) -> list[Row]:
    """Rank the primary pair on a part of the videos: those with the tag, and one of each source."""
    settings, sources, seed = config.study.sources, collection.sources, config.eval.seed
    audio, video = pairs_of(config)[0]
    parts: list[tuple[str, np.ndarray]] = []
    if settings.tag is not None:
        parts.append((f"tag {settings.tag}", np.flatnonzero([settings.tag in tags for tags in collection.tags])))
    parts.append(("one video a source", one_each(sources, np.random.default_rng(seed))))
    rows = []
    for name, chosen in parts:
        units = np.unique(sources[chosen], return_inverse=True)[1]
        if (count := len(np.unique(units))) < (needed := fewest_sources(settings)):
            log.warning("%s: left out: %d sources, and the folds need %d", name, count, needed)
            continue
        rng, alone = np.random.default_rng(seed), len(np.unique(units)) == len(units)
        count = settings.secondary_permutations
        pairings = freely(len(units), count, rng) if alone else within_sources(units, count, rng)
        pair = Pair(collection.means[audio][chosen], collection.means[video][chosen], settings)
        about = {"primary": False, "audio": audio, "video": video, "head": "linear", "folds": "sources"}
        about |= {"permuted": "freely" if alone else "within sources"}
        rows.append(row_of(name, ranked(pair, units, pairings, config), units, config, **about))
    return rows


def naive_rows(config: Config, collection: Collection) -> list[Row]:
    """Rank the primary pair as it is often done: folds split sources, and permutations are free.

    The same is tested by permutations within sources too.
    """
    settings, sources = config.study.sources, collection.sources
    audio, video = pairs_of(config)[0]
    rows = []
    for permuted in ("freely", "within sources"):
        rng, count = np.random.default_rng(config.eval.seed), settings.secondary_permutations
        pairings = freely(len(sources), count, rng) if permuted == "freely" else within_sources(sources, count, rng)
        pair = Pair(collection.means[audio], collection.means[video], settings)
        about = {"primary": False, "audio": audio, "video": video, "head": "linear"}
        about |= {"folds": "videos", "permuted": permuted}
        measured = ranked(pair, np.arange(len(sources)), pairings, config)
        rows.append(row_of("naive", measured, sources, config, **about))
        log.info("folds that split sources, permuted %s", permuted)
    return rows


def heads_row(config: Config, collection: Collection, trained: Trained) -> Row:
    """Rank the primary pair by the trained heads, the mean over their seeds.

    Permuted without new trainings: each fold is tested given the heads of the other folds.
    """
    settings, sources, seeds = config.study.sources, collection.sources, config.study.seeds
    pairings = within_sources(sources, settings.secondary_permutations, np.random.default_rng(config.eval.seed))
    ranks = np.zeros(pairings.shape)
    position = {row: i for i, row in enumerate(collection.rows.tolist())}
    for name, facts in trained.facts.items():
        test = np.array([position[row] for row in facts["rows"]])
        audio, video = (trained.tensors[f"{name}/{modality}"].numpy() for modality in ("audio", "video"))
        of_fold = (rank_matrices(audio, video, settings.recipe.unit).mean(axis=0) - 1) / (len(test) - 1)
        column = np.empty(len(sources), np.int64)
        column[test] = np.arange(len(test))
        ranks[:, test] += of_fold[np.arange(len(test)), column[pairings[:, test]]] / len(seeds)
    about = {"primary": False, "audio": config.heads.audio, "video": config.heads.video, "head": "trained"}
    about |= {"folds": "sources", "permuted": "within sources, heads as they are"}
    return row_of("trained heads", Measured(ranks[0], ranks.mean(axis=1)), sources, config, **about)


def identity_row(config: Config, collection: Collection) -> Row:
    """Return how much of the naive gain over chance is the source's identity.

    Of videos that share their source with others, by folds that split sources: the gain of pairings in which each of
    them has the frames of another video of its source, over the gain of the true pairing. A permutation within sources
    would not do: on average it leaves one pair of each source as it is, and all videos that are alone in theirs.
    """
    settings, sources = config.study.sources, collection.sources
    audio, video = pairs_of(config)[0]
    pairings = shifted(sources, settings.secondary_permutations, np.random.default_rng(config.eval.seed))
    pair = Pair(collection.means[audio], collection.means[video], settings)
    seeds = [config.eval.seed + repeat for repeat in range(settings.repeats)]
    own, *others = pair.ranks(np.arange(len(sources)), pairings, seeds)
    log.info("folds that split sources, each video with the frames of another one of its source")
    return share_row(own, np.mean(others, axis=0), sources, config)


def share_row(own: np.ndarray, other: np.ndarray, sources: np.ndarray, config: Config) -> Row:
    """Return the share of the gain that stays, of ranks with own frames and with those of another video of the source.

    `own` and `other` are float64 [videos]; only videos that share their source count. The interval resamples sources;
    none where a resample has no gain to divide by, and no share without any gain.
    """
    several = np.bincount(sources)[sources] > 1
    row: Row = {"videos": int(several.sum()), "sources": len(np.unique(sources[several]))}
    row |= {"naive_percent": None, "other_percent": None, "naive_gain": None, "share_of_source": None}
    row |= {f"share_of_source_{end}": None for end in ENDS}
    if not several.any():
        return row
    gains = CHANCE - np.stack([own, other])[:, several]
    gain, kept = gains.mean(axis=1).tolist()
    row |= {"naive_percent": PERCENT * (CHANCE - gain), "other_percent": PERCENT * (CHANCE - kept)}
    row |= {"naive_gain": PERCENT * gain}
    if gain <= 0:
        return row
    times = times_drawn(renumbered(sources[several]), config.eval.bootstrap, config.eval.seed)
    of_resample, kept_of_resample = gains @ times.T
    if (of_resample > 0).all():
        ends = percentile_interval(kept_of_resample / of_resample, row["sources"])
        row |= {f"share_of_source_{end}": value for end, value in zip(ENDS, ends, strict=True)}
    return row | {"share_of_source": kept / gain}


def power_rows(config: Config, sources: np.ndarray, threads: int) -> list[Row]:
    """Estimate the power of the primary test with these sources, on simulated videos (study/sources/simulated.py)."""
    settings, rows = config.study.sources, []
    for correlation in sorted({0.0, *settings.power}):
        runs = [(correlation, seed) for seed in range(settings.power_runs)]
        tested = parallel(_simulated_p, runs, threads, _take, config, sources)
        values = [p_value for _, p_value in progress(tested, len(runs), f"power at {correlation:g}", "collections")]
        detections = sum(p_value <= LEVEL for p_value in values)
        rows.append({"correlation": correlation, "power": detections / len(values), "runs": len(values)})
    return rows


_given: tuple[Config, np.ndarray]


def _take(config: Config, sources: np.ndarray) -> None:
    global _given
    threadpool_limits(1)
    _given = config, sources


def _simulated_p(drawn: tuple[float, int]) -> float:
    config, sources = _given
    return simulated_p(config, sources, *drawn)


def simulated_p(config: Config, sources: np.ndarray, correlation: float, seed: int) -> float:
    """Return the p of the primary test on one simulated collection, with one assignment to folds."""
    rng = np.random.default_rng([seed, round(1000 * correlation)])
    pair = Pair(*simulate(sources, correlation, rng), config.study.sources)
    return p_value(pair.ranks(sources, within_sources(sources, POWER_PERMUTATIONS, rng), [seed]).mean(axis=1))


def answer(config: Config, threads: int = 1) -> Answer:
    """Measure everything and return the answer."""
    config.check_sources()
    collection = load(config)
    with threadpool_limits(1):  # matrices this small gain nothing from more threads
        analyses = pair_rows(config, collection)
        naive = naive_rows(config, collection)
        analyses += [*part_rows(config, collection), heads_row(config, collection, read_trained(config, "sources"))]
    tables = {"analyses": analyses + naive, "identity": [identity_row(config, collection)]}
    tables["power"] = power_rows(config, collection.sources, threads)
    smallest = min(tables["analyses"], key=lambda row: int(row["sources"]))
    if collection.left_out:
        tables["near_duplicates"] = collection.left_out
    return Answer(
        part="sources",
        title=TITLE,
        question=QUESTION,
        findings=findings(tables),
        method=METHOD,
        limits=LIMITS + sentences(few_groups(smallest["sources"], f"the analysis `{label(smallest)}`")),
        random_weights=collection.random_weights,
        seeds=list(config.study.seeds),
        command="python -m study.sources.measure --config RESULTS/config.json",
        tables=tables,
    )


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.sources.measure", "cores to use").parse_args()
    config = read(arguments.config)
    write_answer(config.paths, answer(config, arguments.threads))


if __name__ == "__main__":
    run(main)
