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
        metrics_a, metrics_b = (_of_full_galleries(written) for written in (written_a, written_b))
        for (level, direction), metrics in metrics_a.items():
            values = values_a[f"{level}/{direction}"] - values_b[f"{level}/{direction}"]
            paired = metric_intervals(values, written_a["test_groups"], names=list(metrics))
            for name in [name for name in paired if name in METRICS]:
                seeds_a, seeds_b = (of[level, direction][name]["seeds"] for of in (metrics_a, metrics_b))
                line = difference(name, seeds_a, seeds_b, paired[name])
                results.append({"a": a, "b": b, "level": level, "direction": direction, **line})
    compared = {"experiments": names, "bootstrap": config.eval.bootstrap, "seed": config.eval.seed, "results": results}
    write_json(paths.comparison, compared)
    return compared


def _of_full_galleries(written: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return {(level, direction): metrics} of the full galleries in a retrieval.json."""
    full = (result for result in written["results"] if result["gallery"] == "full")
    return {(result["level"], result["direction"]): result["metrics"] for result in full}


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
    """Raise UserError unless both experiments have the same queries, resamples and metrics."""
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
    for result in compare(read(parser(__doc__, "eval.compare").parse_args().config))["results"]:
        if result["metric"] == "median":
            verdict = f"{result[result['better']]} is better" if result["better"] else "no difference shown"
            log.info(
                "%s - %s, %s %s: median rank %+.1f [%+.1f, %+.1f]: %s",
                *(
                    result["a"],
                    result["b"],
                    result["level"],
                    result["direction"],
                    result["difference"],
                    result["low"],
                    result["high"],
                    verdict,
                ),
            )


if __name__ == "__main__":
    run(main)
