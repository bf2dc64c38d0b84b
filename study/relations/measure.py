"""Measure which relations between audio and video exist, of named descriptors and between feature spaces.

    python -m study.relations.measure --config RESULTS/config.json [--threads 2]

Reads the cache (both descriptor arrays and the two backbones of the heads), the manifest, and the embeddings in
heads/EXPERIMENT if there are any; writes study/relations.json. The cache is read shard by shard, in dask tasks.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import combinations

import numpy as np

from config.cli import UserError, parser, run
from config.model import Config, read
from data.groups import group_numbers, renumbered
from eval.similarity import interval
from pipeline.backbones.descriptors import BIN_SECONDS, BINS, DESCRIPTORS
from pipeline.computing import computing
from pipeline.features import Features, open_features
from pipeline.shards import Shards
from study.answer import Answer, Row, write_answer
from study.relations import ridge_tables as reading
from study.relations import sign_test as signs
from study.relations import space_tables as between
from study.relations import tables as discovered
from study.relations.descriptors import AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS, Described, describe
from study.relations.sign_test import Sample
from study.relations.text import LIMITS, METHOD, QUESTION, TITLE, findings, floors

log = logging.getLogger("relations")
REPAIRINGS = 5
"""Random pairings of audio with other videos for the chance of synchrony; each reads the descriptors again."""


def answer(config: Config, threads: int = 1) -> Answer:
    """Measure everything and return the answer. UserError without descriptors, or with too few videos or artists."""
    paths, settings = config.paths, config.study.relations
    config.check_relations()
    features = open_features(paths, threads)
    names = list(dict.fromkeys([config.heads.audio, config.heads.video, AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS]))
    rows = features.rows(valid=names)
    if len(rows) < 20:
        raise UserError(f"{features.folder}: {len(rows)} videos have features of {', '.join(names)}; 20 are needed")
    with computing(config, threads) as how:
        audio, video = (Shards.open(features.folder / name) for name in (AUDIO_DESCRIPTORS, VIDEO_DESCRIPTORS))
        bins = min(BINS, int(config.segments.seconds / BIN_SECONDS))
        described = describe(audio, video, rows, REPAIRINGS, bins, **how)
        log.info("descriptors of %d videos", len(described.rows))
        groups = group_numbers(features.labels(described.rows))
        if not reading.enough(groups):
            raise UserError(
                f"{features.folder}: {len(groups)} videos of {groups.max(initial=-1) + 1} artists have descriptors; "
                f"{reading.FEWEST[0]} of {reading.FEWEST[1]} are needed, because whole artists are tested"
            )
        spaces, spectra = between.linear(features, names, **how)
        log.info("covariances of %s", ", ".join(names))
    tables = association_tables(config, features, described, groups)
    tables |= {"spaces": spaces, "canonical": spectra}
    tables |= sampled_tables(config, features, described, groups, tables)
    return Answer(
        part="relations",
        title=TITLE,
        question=QUESTION,
        findings=findings(tables, config),
        method=METHOD,
        limits=LIMITS + floors(groups, len(tables["descriptors"]), config) + _unread(tables, config),
        random_weights=[name for name in names if features.random_weights(name)],
        seeds=list(range(settings.null_seeds)),
        command="python -m study.relations.measure --config RESULTS/config.json",
        tables=tables,
    )


def association_tables(
    config: Config, features: Features, described: Described, groups: np.ndarray
) -> dict[str, list[Row]]:
    """Return the tables of associations between descriptors, over all videos."""
    settings, alpha = config.study.relations, config.study.relations.false_discoveries
    labels = features.labels(described.rows)
    genres = labels["genre"].to_pylist()
    matrix = discovered.pairs(described, genres, groups, alpha)
    tables = {"descriptors": matrix}
    tables["shuffled"] = discovered.shuffled(described, genres, groups, alpha, settings.null_seeds, config.eval.seed)
    tables["synchrony"] = [synchrony(described.synchrony, groups, config.eval.bootstrap, config.eval.seed)]
    if config.render is not None:
        numbers = np.array([int(name.removeprefix("song")) for name in labels["video_id"].to_pylist()])
        tables["planted"], tables["factors"] = discovered.planted(described, matrix, config.render, numbers, groups)
        middles = features.start()[described.rows] + config.segments.seconds / 2
        tests = discovered.unexplained(described, genres, groups, config.render, numbers, middles)
        for row, strength, adjusted in zip(matrix, tests.strength.flat, tests.q.flat, strict=True):
            row["left_strength"], row["left_q"] = float(strength), float(adjusted)
    return tables


def sampled_tables(
    config: Config, features: Features, described: Described, groups: np.ndarray, tables: dict[str, list[Row]]
) -> dict[str, list[Row]]:
    """Return the tables that need all videos in memory, of at most `study.relations.videos` of them.

    Adds chance to `spaces` and `canonical` of `tables`.
    """
    settings, resamples, seed = config.study.relations, config.eval.bootstrap, config.eval.seed
    chosen = np.arange(len(described.rows))
    if len(chosen) > settings.videos:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, settings.videos, replace=False))
    rows, groups = described.rows[chosen], renumbered(groups[chosen])
    table = {name: values[chosen] for name, values in (described.audio | described.video).items()}
    # Heads have memorised the training videos: only test videos show what they have learned.
    tested = np.isin(rows, features.rows("test"))
    readable = reading.table(config, features, rows, table, groups, tested)
    log.info("descriptors predicted from %s", ", ".join(dict.fromkeys(row["space"] for row in readable)))
    names = list(dict.fromkeys(row[key] for row in tables["spaces"] for key in ("first", "second")))
    arrays = {name: features.numpy(name, rows) for name in names}
    for name in set(names) & set(DESCRIPTORS):
        arrays[name] = arrays[name][:, :, :-BINS]
    neighbours = partial(
        between.neighbours, k=settings.neighbours, permutations=settings.permutations, resamples=resamples, seed=seed
    )
    spaces = {name: between.means(values) for name, values in arrays.items()}
    neighbour_rows = neighbours(spaces, list(combinations(names, 2)), groups)
    train, test = (
        Sample.of({name: values[chosen] for name, values in arrays.items()}, groups[chosen])
        for chosen in (np.isin(rows, features.rows("train")), tested)
    )
    signs.add_chance(tables["spaces"], tables["canonical"], train, test, settings.permutations, seed)
    log.info("chance of the spaces by %d draws", settings.permutations)
    for experiment in reading.trained(config):
        videos = tested & reading.embedded(config, features, experiment, rows)
        if videos.sum() < 2:
            continue
        embeddings = reading.embeddings(config, features, experiment, rows[videos])[0]
        spaces = {f"{experiment}, {modality}": values for modality, values in embeddings.items()}
        pair = (f"{experiment}, audio", f"{experiment}, video")
        neighbour_rows += neighbours(spaces, [pair], groups[videos])
    return {"readable": readable, "neighbours": neighbour_rows}


def synchrony(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> Row:
    """Compare the mean of `Described.synchrony` with re-paired videos: the difference and its 95 % interval.

    `groups` int64 [videos]: the artists, who are resampled as a whole.
    """
    known = np.isfinite(values).all(axis=0)
    values, groups = values[:, known].astype(np.float64), renumbered(groups[known])
    true, repaired = values[0], values[1:]
    gain = true - repaired.mean(axis=0)
    low, high = interval(gain, groups, resamples, seed)
    row: Row = {"videos": len(gain), "artists": int(groups.max()) + 1, "synchrony": float(true.mean())}
    row |= {"chance": float(repaired.mean()), "chance_high": float(repaired.mean(axis=1).max())}
    row["repairings"] = len(repaired)
    return row | {"gain": float(gain.mean()), "low": low, "high": high}


def _unread(tables: dict[str, list[Row]], config: Config) -> list[str]:
    """Return limits of the answer: experiments that are not among the spaces, and why."""
    trained = reading.trained(config)
    missing = [name for name in config.heads.experiments if name not in trained]
    limits = []
    if missing:
        limits.append(f"Not among the spaces, because their heads were not trained yet: {', '.join(missing)}.")
    spaces = {row["space"] for row in tables["readable"]}
    unread = [name for name in trained if f"{name}, audio" not in spaces]
    if unread:
        limits.append(
            f"Descriptors were not predicted from the embeddings of {', '.join(unread)}: that needs test videos, which "
            f"the heads have not seen, and they are fewer than {reading.FEWEST[0]}, or of fewer than "
            f"{reading.FEWEST[1]} artists."
        )
    return limits


def main() -> None:
    """Run the command line."""
    arguments = parser(__doc__, "study.relations.measure", "cores to use").parse_args()
    config = read(arguments.config)
    write_answer(config.paths, answer(config, arguments.threads))


if __name__ == "__main__":
    run(main)
