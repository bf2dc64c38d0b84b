"""Which relations between sound and picture exist, by descriptors that people can name and between feature spaces.

    python -m eval.study.relations --config RESULTS/config.json [--threads 2]

Reads the cache (both descriptor arrays and the two backbones of the heads), the manifest, and the embeddings of
heads/EXPERIMENT where there are any; writes study/relations.json. The cache is read shard by shard, in dask tasks.
"""

from __future__ import annotations

import logging
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError, parser, run
from config.model import Config, read
from config.paths import Paths
from eval.study import between, discovered, reading
from eval.study.answer import Answer, Row, write_answer
from eval.study.described import PICTURE, SOUND, Described, describe
from eval.study.relations_words import LIMITS, METHOD, QUESTION, TITLE, findings
from pipeline.backbones.descriptors import BIN_SECONDS, BINS, DESCRIPTORS
from pipeline.computing import computing
from pipeline.features import Features, open_features
from pipeline.shards import Shards

log = logging.getLogger("relations")


def answer(config: Config, threads: int = 1) -> Answer:
    """Measure everything and put the answer together. UserError without descriptors, or with too few videos."""
    paths, settings = Paths(Path(config.results)), config.study.relations
    features = open_features(paths, threads)
    missing = [name for name in (SOUND, PICTURE) if name not in features.backbones]
    if missing:
        raise UserError(
            f"backbones: {' and '.join(missing)} missing, which this part of the study measures; add "
            + " and ".join(f"`{name}: {{weights: none}}`" for name in missing)
            + " to `backbones` and run `snakemake extract …`"
        )
    names = list(dict.fromkeys([config.heads.audio, config.heads.video, SOUND, PICTURE]))
    rows = features.rows(valid=names)
    if len(rows) < 20:
        raise UserError(f"{features.folder}: {len(rows)} videos have features of {', '.join(names)}; 20 are needed")
    with computing(config, threads) as how:
        arrays = [Shards.open(features.folder / name) for name in (SOUND, PICTURE)]
        bins = min(BINS, int(config.segments.seconds / BIN_SECONDS))
        described = describe(arrays[0], arrays[1], rows, settings.permutations, bins, **how)
        log.info("descriptors of %d videos", len(described.rows))
        spaces, spectra = between.linear(features, names, settings.permutations, **how)
        log.info("covariances of %s", ", ".join(names))
    tables = associated(config, features, described)
    tables |= sampled(config, features, described, names)
    tables |= {"spaces": spaces, "canonical": spectra}
    random = [name for name in names if features.random_weights(name)]
    return Answer(
        part="relations",
        title=TITLE,
        question=QUESTION,
        findings=findings(tables, config),
        method=METHOD,
        limits=LIMITS + _untrained(config),
        random_weights=random,
        seeds=list(range(settings.null_seeds)),
        command="python -m eval.study.relations --config RESULTS/config.json",
        tables=tables,
    )


def associated(config: Config, features: Features, described: Described) -> dict[str, list[Row]]:
    """The tables of descriptors that go together, over all videos."""
    settings, alpha = config.study.relations, config.study.relations.false_discoveries
    labels = features.labels(described.rows)
    genres = labels["genre"].to_pylist()
    matrix = discovered.pairs(described, genres, alpha)
    tables = {"descriptors": matrix}
    tables["shuffled"] = discovered.shuffled(described, genres, alpha, settings.null_seeds, config.eval.seed)
    tables["synchrony"] = [synchrony(described.synchrony, config.eval.bootstrap, config.eval.seed)]
    if config.render is not None:
        numbers = np.array([int(name.removeprefix("song")) for name in labels["video_id"].to_pylist()])
        tables["planted"], tables["factors"] = discovered.planted(described, matrix, config.render, numbers)
        middles = features.start()[described.rows] + config.segments.seconds / 2
        left = discovered.explained(described, genres, config.render, numbers, middles)
        for k, row in enumerate(matrix):
            row["left_strength"], row["left_q"] = float(left.strength.flat[k]), float(left.q.flat[k])
    return tables


def sampled(config: Config, features: Features, described: Described, names: list[str]) -> dict[str, list[Row]]:
    """The tables of what needs all videos at once, of at most `study.relations.videos` of them."""
    settings, seed = config.study.relations, config.eval.seed
    chosen = np.arange(len(described.rows))
    if len(chosen) > settings.videos:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, settings.videos, replace=False))
    rows = described.rows[chosen]
    table = {name: values[chosen] for name, values in (described.sound | described.picture).items()}
    artists = features.labels(rows)["artist"].to_pylist()
    read_off = reading.table(config, features, rows, table, artists)
    log.info("descriptors read from %s", ", ".join(dict.fromkeys(line["space"] for line in read_off)))
    spaces = {name: between.means(features.numpy(name, rows)) for name in names}
    for name in set(names) & set(DESCRIPTORS):
        spaces[name] = spaces[name][:, :-BINS]
    how: tuple[Any, ...] = (settings.neighbours, settings.permutations, config.eval.bootstrap, seed)
    near = between.neighbours(spaces, list(combinations(names, 2)), *how)
    # Heads have learned the training videos by heart: only the test split's say what they can.
    tested = np.intersect1d(rows, features.rows("test"))
    for experiment in reading.trained(config) if len(tested) > 1 else []:
        sides = reading.embeddings(config, features, experiment, tested)[0]
        both = {f"{experiment}, {side}": values for side, values in sides.items()}
        near += between.neighbours(both, [(f"{experiment}, audio", f"{experiment}, video")], *how)
    return {"readable": read_off, "neighbours": near}


def synchrony(values: np.ndarray, resamples: int, seed: int) -> Row:
    """The mean over videos of `Described.synchrony`, beside re-paired videos; the difference with its interval."""
    values = values[:, np.isfinite(values).all(axis=0)].astype(np.float64)
    true, anew = values[0], values[1:]
    gain = true - anew.mean(axis=0)
    n = len(gain)
    rng = np.random.default_rng(seed)
    # One resample at a time: of a whole cache they do not fit together.
    low, high = np.percentile([gain[rng.integers(n, size=n)].mean() for _ in range(resamples)], [2.5, 97.5])
    row: Row = {"videos": n, "synchrony": float(true.mean()), "chance": float(anew.mean())}
    row |= {"chance_high": float(anew.mean(axis=1).max()), "repairings": len(anew)}
    return row | {"gain": float(gain.mean()), "low": float(low), "high": float(high)}


def _untrained(config: Config) -> list[str]:
    lacking = [name for name in config.heads.experiments if name not in reading.trained(config)]
    return [f"Without trained heads when this was measured, so not among the spaces: {', '.join(lacking)}."] * bool(
        lacking
    )


def main() -> None:
    """Command line."""
    args = parser(__doc__, "eval.study.relations", "cores to use").parse_args()
    config = read(args.config)
    write_answer(Paths(Path(config.results)), answer(config, args.threads))


if __name__ == "__main__":
    run(main)
