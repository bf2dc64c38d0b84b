"""How often the evaluation, the diagnosis and the study find something where nothing is, on simulated artists.

    python -m bench.nulls [--runs 200] [--only CLAIM …]

Reads nothing; writes bench/results/nulls.json, or with `--only` replaces these claims' rows in it.

In every run videos of one artist are alike (intraclass correlation) in either modality, or independent, and audio and
video share nothing, or two models are equally good. A test at 5 % must then find something in at most 5 % of the runs,
and a claim that an interval of 95 % lies above chance may be made in 2.5 %; the count lies below the 99.9 % quantile of
the binomial distribution. The claims of bench/null_claims.py are made with fewer artists as well, where the intervals
themselves call themselves unreliable. The interval of MRR at chance, which is known to be too short (SKEWED in
bench/null_claims.py), is in the table and not in the bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from bench import measure
from bench.null_artists import ALIKE, SIZES, Artists
from bench.null_claims import CLAIMS, SKEWED
from config.cli import UserError, parser, run
from config.labels import Probes
from config.processes import parallel
from eval.diagnose.findings import COMPARISON, below_features
from eval.probe.fit import ProbeSplit, fit
from eval.probe.measure import Scores, compare
from eval.probe.measure import measure as measure_probe
from eval.probe.metrics import resamples
from study.correlation.permutation_test import LEVEL
from study.relations.associations import Table, associations, dummies
from study.relations.sign_test import Pairing, Sample, Signs, p_value
from study.relations.space_tables import neighbours

RELATIONS = "relations without intervals"
"""Name of the tests of `of_relations`, beside those of CLAIMS."""
FEWEST = list(SIZES)[-1]
"""Fewer artists than an interval needs (eval/bootstrap.py)."""


def tables(artists: Artists, numbers: int = 4, confounder: np.ndarray | float = 0.0) -> tuple[Table, Table]:
    """Draw descriptors of both modalities, a direction among them, with nothing in common but a confounder [videos]."""
    drawn = []
    for name in "xy":
        table = {f"{name}{number}": artists.draw()[:, 0] + confounder for number in range(numbers)}
        angle = artists.draw(2)
        drawn.append(table | {f"{name} direction": angle / np.linalg.norm(angle, axis=1, keepdims=True)})
    return drawn[0], drawn[1]


def descriptors(artists: Artists, whole: bool = True) -> tuple[np.ndarray, bool]:
    """Return p of one pair of each descriptor, and whether any pair is discovered.

    With `whole` artists are tested; otherwise videos are taken for independent.
    """
    rows, columns = tables(artists)
    tests = associations(rows, columns, None, artists.groups if whole else None)
    return tests.p.diagonal(), bool((tests.q <= LEVEL).any())


def within_genres(artists: Artists) -> tuple[np.ndarray, bool]:
    """Test the same where a genre, which most of an artist's videos have, moves everything and is held constant."""
    artist_genre = artists.rng.integers(4, size=artists.groups.max() + 1)[artists.groups]
    genre = np.where(
        artists.rng.random(len(artist_genre)) < 0.2, artists.rng.integers(4, size=len(artist_genre)), artist_genre
    )
    covariates = dummies([f"{label}" for label in genre])
    rows, columns = tables(artists, confounder=1.5 * genre)
    tests = associations(rows, columns, covariates, artists.groups)
    return tests.p.diagonal(), bool((tests.q <= LEVEL).any())


def many_given(artists: Artists) -> tuple[np.ndarray, bool]:
    """Test the same with a tenth as many columns held constant as there are videos, of which one moves everything."""
    covariates = artists.rng.standard_normal((len(artists.groups), len(artists.groups) // 10))
    rows, columns = tables(artists, confounder=0.5 * covariates[:, 0])
    tests = associations(rows, columns, covariates, artists.groups)
    return tests.p.diagonal(), bool((tests.q <= LEVEL).any())


def spaces(artists: Artists, draws: int = 19, whole: bool = True) -> Iterator[tuple[str, float]]:
    """Yield (measure, p) of independent feature spaces; with `whole` artists drawn, or single videos."""
    independent = Artists("60 artists with 5 videos each", artists.alike, int(artists.rng.integers(2**31)))
    samples, seeds = [], artists.rng.integers(2**31, size=2)
    for videos in (artists, independent):
        groups = videos.groups if whole else np.arange(len(videos.groups))
        representations = {name: videos.draw(dim)[:, None, :] for name, dim in (("a", 12), ("b", 8))}
        samples.append(Sample.of(representations, groups))
    drawn: list[tuple[Signs, Signs]] = [(None, None)]
    drawn += zip(*(sample.signs(draws, int(seed)) for sample, seed in zip(samples, seeds, strict=True)), strict=True)
    observed, *permuted = Pairing(samples[0], samples[1], ("a", "b"), 0.1).measures(drawn)
    yield "CKA", p_value(observed.cka, np.array([measures.cka for measures in permuted]))
    means = np.array([measures.canonical.mean() for measures in permuted])
    yield "canonical correlations", p_value(float(observed.canonical.mean()), means)
    (near,) = neighbours(samples[0].spaces, [("a", "b")], samples[0].groups, 10, draws, 2, 0)
    yield "mutual neighbours", near["p"]


def equally_good(seed: int, test: int, train: int = 200) -> dict[str, Any]:
    """Diagnose embeddings that are as good as the features: both are noisy views of the same factors.

    Two tasks of three classes, probed as eval/probe does, by the linear probe on whole videos.
    """
    rng = np.random.default_rng([seed, test, train])
    counts = {"train": train, "validation": 60, "test": test}
    videos, classes, dim = sum(counts.values()), 3, 12
    factors = rng.standard_normal((videos, dim))
    views = [(factors + rng.standard_normal((videos, dim))).astype(np.float32) for _ in range(2)]
    edges, settings = np.cumsum(list(counts.values()))[:-1], Probes(max_epochs=10, batch=50, learning_rate=0.02)
    times, probed = resamples(test, np.arange(test), 200, seed), {}
    for number, task in enumerate(("genre", "tagging")):
        likely = 1.5 * factors[:, classes * number :][:, :classes] + rng.gumbel(size=(videos, classes))
        truth = np.split(likely.argmax(axis=1)[:, None] == np.arange(classes), edges)
        measures = []
        for view in views:
            parts = np.split(view[:, None], edges)
            splits = [ProbeSplit(x, np.ones((len(x), 1), bool), y) for x, y in zip(parts, truth, strict=True)]
            fitted = fit(splits[0], splits[1], settings, [], True, seed)
            scores, all_classes = fitted.scores(parts[2][:, 0])[None], np.ones(classes, bool)
            scored = Scores(scores, np.full((1, classes), 0.5), [fitted.epoch], dim)
            measures.append(measure_probe(scored, truth[2], list("abc"), all_classes, times, test, True))
        probed[task] = {"videos": counts, "comparisons": [COMPARISON | compare(measures[0], measures[1], "auc")]}
    return below_features(probed)


def line(what: str, sizes: str, alike: float, findings: int, tests: int, level: float = LEVEL) -> dict[str, Any]:
    """Return one row: how often something was found in so many independent tests at `level`."""
    low, high = (int(binom.ppf(share, tests, level)) for share in (0.001, 0.999))
    row = {"what": what, "artists": sizes, "alike": alike, "found": findings, "of": tests}
    row["rate"] = findings / tests
    return row | {"level": level, "most": high / tests, "least": low / tests, "kept": findings <= high}


def of_relations(sizes: str, alike: float, runs: int) -> list[dict[str, Any]]:
    """Run the tests of study/relations that need no interval."""
    rows = []
    for what, test in (
        ("descriptors", descriptors),
        ("descriptors, within genres", within_genres),
        ("descriptors, many things held constant", many_given),
    ):
        results = [test(Artists(sizes, alike, seed)) for seed in range(runs)]
        significant = int(sum((p_values <= LEVEL).sum() for p_values, _ in results))
        discoveries = sum(any_pair for _, any_pair in results)
        rows.append(line(f"{what}: p ≤ .05", sizes, alike, significant, runs * results[0][0].size))
        rows.append(line(f"{what}: any discovery", sizes, alike, discoveries, runs))
    below: dict[str, list[bool]] = {}
    for seed in range(runs):
        for what, p in spaces(Artists(sizes, alike, seed)):
            below.setdefault(f"spaces: {what}", []).append(p <= LEVEL)
    return rows + [line(what, sizes, alike, sum(hits), runs) for what, hits in below.items()]


def cell(runs: int, names: Sequence[str], key: tuple[str, float]) -> list[dict[str, Any]]:
    """Return the rows of one kind of artists: of these of CLAIMS, and of RELATIONS if that is among the names."""
    sizes, alike = key
    rows = []
    for what, (claim, level) in CLAIMS.items():
        if what in names:
            claimed = sum(claim(Artists(sizes, alike, seed)) for seed in range(runs))
            rows.append(line(what, sizes, alike, claimed, runs, level))
    # Six artists have too few patterns of signs to be tested (study.relations.associations.smallest_p).
    return rows + (of_relations(sizes, alike, runs) if RELATIONS in names and sizes != FEWEST else [])


def of_all_artists(runs: int, names: Sequence[str], threads: int) -> list[dict[str, Any]]:
    """Return the rows of a test for every kind of artists, those of one claim together."""
    keys = [(sizes, alike) for sizes in SIZES for alike in ALIKE]
    measured = {}
    for key, rows in parallel(partial(cell, runs, names), keys, threads, torch.set_num_threads, 1):
        measured[key] = rows
        print(*key, flush=True)
    rows = [row for key in keys for row in measured[key]]
    order = list(dict.fromkeys(row["what"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["what"]))


def measure_all(runs: int, threads: int = 1) -> dict[str, Any]:
    """Measure everything for the result file."""
    rows = of_all_artists(runs, [*CLAIMS, RELATIONS], threads)
    for videos in (60, 200, 900):
        accused = sum(equally_good(seed, videos)["verdict"] == "found" for seed in range(runs))
        rows.append(line(f"diagnosis `downstream_below_features`, {videos} test videos", "", 0.0, accused, runs))
    return with_bar(runs, rows)


def measured_again(before: dict[str, Any], names: Sequence[str], threads: int = 1) -> dict[str, Any]:
    """Return an earlier result with the rows of these claims measured anew, with as many runs."""
    again = of_all_artists(before["runs"], names, threads)
    by_claim: dict[str, list[dict[str, Any]]] = {what: [] for what in CLAIMS}
    for row in before["rows"]:
        by_claim.setdefault(row["what"], []).append(row)
    by_claim |= {what: [row for row in again if row["what"] == what] for what in {row["what"] for row in again}}
    return with_bar(before["runs"], [row for rows in by_claim.values() for row in rows])


def with_bar(runs: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the result file's content: the rows, and the worst of those that count beside its limit."""
    counted = [row for row in rows if row["artists"] != FEWEST and row["what"] not in SKEWED]
    worst = max(counted, key=lambda row: row["rate"] / row["most"])
    bar = measure.bar(
        "false findings, worst rate of the table beside its limit (10 artists and more; without the interval of MRR)",
        worst["rate"] / worst["most"],
        at_most=1,
    )
    return {"runs": runs, "rows": rows, "bars": [bar]}


def table(result: dict[str, Any]) -> str:
    """Return a test a line, the kinds of artists in columns: the rates by how alike an artist's videos are.

    The last column has the rate of all runs with as many artists as an interval needs.
    """
    columns = [column for column in dict.fromkeys(row["artists"] for row in result["rows"]) if column]
    lines = [f"| found, nominal rate | {' | '.join(columns)} | together, without {FEWEST.split(' with')[0]} |"]
    lines.append("|---|" + "---|" * (len(columns) + 1))
    for what in dict.fromkeys(row["what"] for row in result["rows"]):
        of_test = [row for row in result["rows"] if row["what"] == what]
        cells = [_rates([row for row in of_test if row["artists"] == column]) for column in columns]
        if any(row["artists"] for row in of_test):
            enough = [row for row in of_test if row["artists"] != FEWEST]
            found, of = (sum(row[key] for row in enough) for key in ("found", "of"))
            cells.append(_rates([line(what, "", 0.0, found, of, of_test[0]["level"])]))
        else:
            cells = [_rates(of_test), *[""] * len(columns)]
        lines.append(f"| {what}, {100 * of_test[0]['level']:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rates(rows: list[dict[str, Any]]) -> str:
    """Return rates in percent, with a mark where they are too high; nothing without rows."""
    rates = " / ".join(f"{100 * row['rate']:.1f}{'' if row['kept'] else '!'}" for row in rows)
    return f"{rates} %" if rows else ""


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "bench.nulls", "processes", config=False)
    command_line.add_argument("--runs", type=int, default=200, help="simulated collections of each kind")
    command_line.add_argument(
        "--only", nargs="+", choices=[*CLAIMS, RELATIONS], metavar="CLAIM",
        help="measure these alone and keep the result file's other rows; of: " + "; ".join([*CLAIMS, RELATIONS]),
    )  # fmt: skip
    arguments = command_line.parse_args()
    before = measure.load("nulls")
    if arguments.only and before is None:
        raise UserError("--only keeps the rows of bench/results/nulls.json, which is not there; measure everything")
    torch.set_num_threads(1)
    with threadpool_limits(1):  # matrices this small are not worth a second thread
        if arguments.only and before:
            result = measured_again(before, arguments.only, arguments.threads)
        else:
            result = measure_all(arguments.runs, arguments.threads)
    measure.save("nulls", f"python -m bench.nulls --runs {result['runs']}", result)


if __name__ == "__main__":
    run(main)
