"""Compare the retrieval of all pairs of experiments.

Reads eval/EXPERIMENT/retrieval.json and .safetensors of every experiment. Writes eval/comparison.json: for each
pair of experiments, level, direction and metric, over the full test split, the difference of the means over seeds with
two 95 % intervals. One is paired by query: both experiments are measured on the same resamples of the test split's
groups (data/groups.py), so what makes a video hard for both cancels out. The other is Welch's, over the seeds. A
difference counts only if neither contains 0. Not corrected for multiple comparisons: each 95 % interval misses a true
zero about 1 time in 20.
"""

from __future__ import annotations

import logging
from itertools import combinations
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from config.cli import UserError, parser, run
from config.files import read_json, write_json
from config.model import Config, read
from config.paths import Paths
from eval.bootstrap import metric_intervals
from eval.seeds import difference_interval, excludes_zero
from heads.metrics import METRICS

log = logging.getLogger("compare")


def load_retrieval(paths: Paths, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return an experiment's retrieval JSON and the bootstrap's values. UserError if either is missing."""
    path = paths.eval(name) / "retrieval.json"
    written, tensors = read_json(path), path.with_suffix(".safetensors")
    if written is None or not tensors.exists():
        raise UserError(f"{path} or its .safetensors does not exist; run `snakemake evaluate …`")
    return written, load_file(tensors)


def compare(config: Config) -> dict[str, Any]:
    """Compare all pairs of experiments, write the JSON and return it."""
    paths, names = config.paths, list(config.heads.experiments)
    loaded = {name: load_retrieval(paths, name) for name in names}
    results = []
    for a, b in combinations(names, 2):
        _check_same(a, b, loaded)
        (written_a, values_a), (written_b, values_b) = loaded[a], loaded[b]
        of_b = {(r["level"], r["direction"]): r["metrics"] for r in written_b["results"] if r["gallery"] == "full"}
        for r in written_a["results"]:
            if r["gallery"] == "full":
                kind, key = (r["level"], r["direction"]), f"{r['level']}/{r['direction']}"
                values, groups = values_a[key] - values_b[key], written_a["test_groups"]
                paired = metric_intervals(values, groups, names=list(r["metrics"]))
                for name in [name for name in paired if name in METRICS]:
                    line = difference(name, r["metrics"][name]["seeds"], of_b[kind][name]["seeds"], paired[name])
                    results.append({"a": a, "b": b, "level": kind[0], "direction": kind[1], **line})
    compared = {"experiments": names, "bootstrap": config.eval.bootstrap, "seed": config.eval.seed, "results": results}
    write_json(paths.comparison, compared)
    return compared


def difference(metric: str, a: list[float], b: list[float], paired: tuple[float, float]) -> dict[str, Any]:
    """Return one metric's difference a - b of the seeds' means, as JSON; `paired` is its bootstrap interval.

    `better` is "a" or "b", or null where an interval contains 0.
    """
    value = float(np.mean(a) - np.mean(b))
    seeds = difference_interval(a, b)
    clear = excludes_zero(paired) and excludes_zero(seeds or paired)
    better = None if not clear else "a" if (value < 0) == METRICS[metric].lower_is_better else "b"
    low, high = seeds or (None, None)
    line = {"metric": metric, "difference": value, "low": paired[0], "high": paired[1]}
    return line | {"seeds_low": low, "seeds_high": high, "better": better}


def _check_same(a: str, b: str, loaded: dict[str, Any]) -> None:
    """UserError unless both experiments have the same queries, resamples and metrics."""
    (written_a, values_a), (written_b, values_b) = loaded[a], loaded[b]
    # Without `test_groups` the resamples are those of an earlier version, which drew videos.
    same = ["test_groups" in written_a, "test_groups" in written_b]
    same += [written_a.get(key) == written_b.get(key) for key in ("bootstrap", "seed", "segments", "test_groups")]
    # Experiments may read different backbones, but a backbone of both must have the same features in both.
    of_b = written_b["keys"]
    same += [key == of_b[backbone] for backbone, key in written_a["keys"].items() if backbone in of_b]
    # The metrics' order is that of the resamples' columns.
    same.append(list(written_a["results"][0]["metrics"]) == list(written_b["results"][0]["metrics"]))
    if not all(same) or not np.array_equal(values_a["rows"], values_b["rows"]):
        raise UserError(
            f"eval/{a} and eval/{b} were not measured on the same test videos with the same `eval` settings and "
            "metrics; run `snakemake evaluate …`"
        )


def main() -> None:
    """Run the command line."""
    for r in compare(read(parser(__doc__, "eval.compare").parse_args().config))["results"]:
        if r["metric"] == "median":
            verdict = f"{r[r['better']]} is better" if r["better"] else "no difference shown"
            log.info(
                "%s - %s, %s %s: median rank %+.1f [%+.1f, %+.1f]: %s",
                *(r["a"], r["b"], r["level"], r["direction"], r["difference"], r["low"], r["high"], verdict),
            )


if __name__ == "__main__":
    run(main)
