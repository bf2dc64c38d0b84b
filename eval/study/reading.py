"""How well each descriptor can be read from each backbone's features and each head's embeddings: a table.

Reads the arrays' and the embeddings' sampled rows; writes nothing. The method is `readable.py`'s. What is read is a
video's descriptor, from the mean of its segments' features.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from config.model import Config
from eval.seeds import mean_interval
from eval.study.answer import Row
from eval.study.associations import Table
from eval.study.between import means
from eval.study.readable import folds, predictions, r2
from heads.embed import load_embeddings
from heads.runs import runs
from pipeline.features import Features


def targets(table: Table) -> tuple[list[str], np.ndarray]:
    """Names and float64 [videos, columns]: a direction is two columns of the same name; numbers are normal in rank."""
    names, values = [], []
    for name, each in table.items():
        for column in each.T if each.ndim == 2 else [rankdata(each) / len(each)]:
            names.append(name)
            values.append(column)
    return names, np.column_stack(values)


def trained(config: Config) -> list[str]:
    """The experiments that have embeddings, of every seed."""
    return [
        e for e in config.heads.experiments if all((run.folder / "embeddings.json").exists() for run in runs(config, e))
    ]


def embeddings(config: Config, features: Features, experiment: str, rows: np.ndarray) -> list[dict[str, np.ndarray]]:
    """For every seed {`audio`, `video`: float32 [videos, embedding]}, the means of the videos' segments."""
    keys = {name: features.key(name) for name in (config.heads.audio, config.heads.video)}
    found = [load_embeddings(run, rows, keys) for run in runs(config, experiment)]
    return [{"audio": means(each.audio), "video": means(each.video)} for each in found]


def table(
    config: Config, features: Features, rows: np.ndarray, described: Table, artists: list[str | None]
) -> list[Row]:
    """A row for every descriptor and space: R², its interval, and the same where the descriptors are shuffled.

    `described`: of the manifest's `rows` (int64 [videos]). With several seeds the interval is that of their mean.
    """
    names, y = targets(described)
    seed, resamples = config.eval.seed, config.eval.bootstrap
    fold = folds(artists, seed)
    order = np.random.default_rng(seed).permutation(len(y))
    spaces = {
        name: [means(features.numpy(name, rows))] for name in dict.fromkeys((config.heads.audio, config.heads.video))
    }
    for experiment in trained(config):
        each = embeddings(config, features, experiment, rows)
        spaces |= {f"{experiment}, {side}": [values[side] for values in each] for side in ("audio", "video")}
    lines = []
    for space, versions in spaces.items():
        found = [r2(y, predictions(x, y, fold), resamples, seed) for x in versions]
        chance = r2(y[order], predictions(versions[0], y[order], fold), 100, seed)[0]
        for name in dict.fromkeys(names):
            at = [k for k, other in enumerate(names) if other == name]
            values = [float(np.mean(each[0, at])) for each in found]
            ends = mean_interval(values) or tuple(float(end) for end in found[0][1:, at].mean(axis=1))
            line = {"descriptor": name, "space": space, "r2": float(np.mean(values)), "low": ends[0], "high": ends[1]}
            lines.append(line | {"chance": float(np.mean(chance[at])), "seeds": len(values), "videos": len(y)})
    return lines
