"""How well each descriptor is predicted from each backbone's features and each head's embeddings: a table.

Reads the sampled rows of the arrays and the embeddings; writes nothing. Ridge regression (study/ridge.py) predicts the
descriptors of a video from the mean of its segments' features. Backbones are frozen, so videos of all splits are used.
Heads have memorised the other modality of the training and validation videos, so their embeddings are used on test
videos only; for comparison the backbones' features are too.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from config.model import Config
from data.groups import renumbered
from eval.bootstrap import percentile_interval
from eval.seeds import mean_interval
from heads.embed import load_embeddings
from heads.runs import runs
from pipeline.features import Features
from study.answer import Row
from study.groups import folds, repaired
from study.relations.associations import Table
from study.relations.space_tables import means
from study.ridge import FOLDS, predictions, resampled_r2, weighted_r2

FEWEST = 20, FOLDS
"""The fewest videos and artists for a prediction: every fold needs an artist, and the fit some videos."""
REPAIRINGS = 3
"""Random pairings of videos with descriptors of other artists' videos, for the chance of R²; each is fitted anew."""


def targets(table: Table) -> tuple[list[str], np.ndarray]:
    """Return names and columns to predict, float64 [videos, columns]: ranks, or the two columns of a direction."""
    names, values = [], []
    for name, descriptor in table.items():
        for column in descriptor.T if descriptor.ndim == 2 else [rankdata(descriptor) / len(descriptor)]:
            names.append(name)
            values.append(column)
    return names, np.column_stack(values)


def trained(config: Config) -> list[str]:
    """Return the experiments that have embeddings of every seed."""
    return [
        name
        for name in config.heads.experiments
        if all((run.folder / "embeddings.json").exists() for run in runs(config, name))
    ]


def embeddings(config: Config, features: Features, experiment: str, rows: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return for every seed {`audio`, `video`: float32 [videos, embedding]}, the means of the videos' segments."""
    keys = {name: features.key(name) for name in config.sides(experiment).backbones}
    by_seed = [load_embeddings(run, rows, keys) for run in runs(config, experiment)]
    return [{"audio": means(segments.audio), "video": means(segments.video)} for segments in by_seed]


def embedded(config: Config, features: Features, experiment: str, rows: np.ndarray) -> np.ndarray:
    """Return which videos have embeddings by an experiment, whose backbones may be its own: bool [rows]."""
    valid: np.ndarray = features.valid(*config.sides(experiment).backbones)[rows]
    return valid


def enough(groups: np.ndarray) -> bool:
    """Return whether there are enough videos and artists (`groups` int64 [videos]) for a prediction."""
    return len(groups) >= FEWEST[0] and len(np.unique(groups)) >= FEWEST[1]


def table(
    config: Config, features: Features, rows: np.ndarray, described: Table, groups: np.ndarray, tested: np.ndarray
) -> list[Row]:
    """Predict every descriptor from every space, a row each: R², its interval, and R² of other artists' descriptors.

    `described` are descriptors of the manifest's `rows` (int64 [videos]), `groups` their artists (int64 [videos]);
    `tested` bool [videos]: which are of the test split. There are no rows of heads without `enough` test videos that
    their backbones could read.
    """
    names = tuple(dict.fromkeys((config.heads.audio, config.heads.video)))
    backbones = {name: means(features.numpy(name, rows)) for name in names}
    table_rows = read_from(config, {name: [values] for name, values in backbones.items()}, described, groups)

    def read_part(spaces: dict[str, list[np.ndarray]], chosen: np.ndarray) -> list[Row]:
        """Return the rows of spaces of the `chosen` videos."""
        part = {name: values[chosen] for name, values in described.items()}
        return read_from(config, spaces, part, renumbered(groups[chosen]))

    chosen = {name: tested & embedded(config, features, name, rows) for name in trained(config)}
    chosen = {name: videos for name, videos in chosen.items() if enough(groups[videos])}
    if chosen:
        table_rows += read_part(
            {f"{name}, test videos": [values[tested]] for name, values in backbones.items()}, tested
        )
    for experiment, videos in chosen.items():
        by_seed = embeddings(config, features, experiment, rows[videos])
        spaces = {
            f"{experiment}, {modality}": [embedding[modality] for embedding in by_seed]
            for modality in ("audio", "video")
        }
        table_rows += read_part(spaces, videos)
    return table_rows


def read_from(config: Config, spaces: dict[str, list[np.ndarray]], described: Table, groups: np.ndarray) -> list[Row]:
    """Return the rows of some spaces of the same videos, {name: float [videos, dim] of every seed}.

    `low` and `high` are over the artists, of the mean over the seeds: seeds alone would say nothing about other videos.
    `seeds_low` and `seeds_high` are over the seeds, None where there is one.
    """
    names, y = targets(described)
    seed, resamples = config.eval.seed, config.eval.bootstrap
    fold = folds(groups, FOLDS, seed)
    artists = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    donors = [repaired(groups, rng) for _ in range(REPAIRINGS)]
    rows = []
    for space, versions in spaces.items():
        # [seeds, 1 + resamples, targets]
        predicted = [predictions(features, y, fold) for features in versions]
        scores = np.stack([resampled_r2(y, values, groups, resamples, seed) for values in predicted])
        chance = np.mean([_by_chance(versions[0], y, fold, donor) for donor in donors], axis=0)
        for name in dict.fromkeys(names):
            columns = [column for column, target in enumerate(names) if target == name]
            by_seed = scores[:, :, columns].mean(axis=2)
            low, high = percentile_interval(by_seed[:, 1:].mean(axis=0), artists)
            seeds_low, seeds_high = mean_interval(by_seed[:, 0].tolist()) or (None, None)
            row: Row = {"descriptor": name, "space": space, "r2": float(by_seed[:, 0].mean())}
            row |= {"low": low, "high": high, "seeds_low": seeds_low, "seeds_high": seeds_high}
            row |= {"chance": float(np.mean(chance[columns])), "seeds": len(versions), "videos": len(y)}
            rows.append(row | {"artists": artists})
    return rows


def _by_chance(x: np.ndarray, y: np.ndarray, fold: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Return R² of the donors' descriptors (`repaired`), float64 [targets]; videos without a donor are left out."""
    paired = donors >= 0
    shuffled = y[donors[paired]]
    return weighted_r2(shuffled, predictions(x[paired], shuffled, fold[paired]), np.ones((1, len(shuffled))))[0]
