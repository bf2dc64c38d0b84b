"""Which experiments retrieve better than which, and where nothing says so.

Reads eval/EXPERIMENT/retrieval.json and .safetensors of every experiment. Writes eval/comparison.json: for each
pair of experiments, level, direction and metric, over the full test split, the difference of the means over seeds with
two 95 % intervals. One is paired by query: both experiments answer the same resamples of the test videos, so what makes
a video hard for both cancels out. The other is Welch's, over the seeds. A difference is called one only if neither
contains 0. The intervals are not corrected for how many there are: of twenty true zeros, one is missed.
"""

from __future__ import annotations

import logging
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError, parser, run
from config.files import read_json, write_json
from config.model import Config, read
from config.paths import Paths
from eval.bootstrap import STATISTICS, ends
from eval.seeds import difference_interval

log = logging.getLogger("compare")
LOWER_IS_BETTER = ("median", "mean")


def load_retrieval(paths: Paths, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """An experiment's retrieval JSON and the bootstrap's values. UserError if either is missing."""
    path = paths.eval(name) / "retrieval.json"
    written, tensors = read_json(path), path.with_suffix(".safetensors")
    if written is None or not tensors.exists():
        raise UserError(f"{path} or its .safetensors does not exist; run `snakemake evaluate …`")
    return written, load_file(tensors)


def compare(config: Config) -> dict[str, Any]:
    """Compare all pairs of experiments and write the JSON; returns it."""
    paths, names = Paths(Path(config.results)), list(config.heads.experiments)
    loaded = {name: load_retrieval(paths, name) for name in names}
    results = []
    for one, other in combinations(names, 2):
        _check_same(one, other, loaded)
        (written, values), (others, against) = loaded[one], loaded[other]
        theirs = {(r["level"], r["direction"]): r["metrics"] for r in others["results"] if r["gallery"] == "full"}
        for r in written["results"]:
            if r["gallery"] == "full":
                kind, key = (r["level"], r["direction"]), f"{r['level']}/{r['direction']}"
                paired = ends(values[key] - against[key])
                for name in STATISTICS:
                    line = difference(name, r["metrics"][name]["seeds"], theirs[kind][name]["seeds"], paired[name])
                    results.append({"a": one, "b": other, "level": kind[0], "direction": kind[1], **line})
    found = {"experiments": names, "bootstrap": config.eval.bootstrap, "seed": config.eval.seed, "results": results}
    write_json(paths.comparison, found)
    return found


def difference(metric: str, a: list[float], b: list[float], paired: tuple[float, float]) -> dict[str, Any]:
    """One metric's difference a - b of the seeds' means, as JSON; `paired` is its bootstrap interval.

    `better` is "a" or "b", or null where nothing says that one is: an interval contains 0.
    """
    value = float(np.mean(a) - np.mean(b))
    seeds = difference_interval(a, b)
    clear = all(low > 0 or high < 0 for low, high in (paired, seeds or paired))
    better = None if not clear else "a" if (value < 0) == (metric in LOWER_IS_BETTER) else "b"
    low, high = seeds or (None, None)
    line = {"metric": metric, "difference": value, "low": paired[0], "high": paired[1]}
    return line | {"seeds_low": low, "seeds_high": high, "better": better}


def _check_same(one: str, other: str, loaded: dict[str, Any]) -> None:
    """UserError unless both were asked the same queries with the same resamples."""
    (a, rows), (b, others) = loaded[one], loaded[other]
    same = [a[key] == b[key] for key in ("keys", "bootstrap", "seed")]
    if not all(same) or not np.array_equal(rows["rows"], others["rows"]):
        raise UserError(
            f"eval/{one} and eval/{other} were not measured on the same test videos with the same `eval` settings; "
            "run `snakemake evaluate …`"
        )


def main() -> None:
    """Command line."""
    for r in compare(read(parser(__doc__, "eval.compare").parse_args().config))["results"]:
        if r["metric"] == "median":
            verdict = f"{r[r['better']]} is better" if r["better"] else "no difference shown"
            log.info(
                "%s - %s, %s %s: median rank %+.1f [%+.1f, %+.1f]: %s",
                *(r["a"], r["b"], r["level"], r["direction"], r["difference"], r["low"], r["high"], verdict),
            )


if __name__ == "__main__":
    run(main)
