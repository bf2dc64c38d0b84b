"""The report's summary: the results in a few sentences. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from eval.report.gather import ExperimentRun, Run
from eval.report.plots.neighbours import WAYS
from eval.report.tables import table_1


def answers(run: Run) -> list[str]:
    """Return a sentence on each of retrieval, published formula, probes and neighbours, as far as measured."""
    rows = table_1(run)
    if not rows or run.lead is None:
        return []
    sentences = [_retrieval(run, rows), _formula(rows), *_probes(run, run.lead), _neighbours(run.lead)]
    return [sentence for sentence in sentences if sentence]


SEVERITY = {"broken": 0, "weak": 1, "note": 2}


def diagnosed(run: Run) -> list[dict[str, Any]]:
    """Return what eval/diagnose found, the worst first: each finding once, with the `experiments` that have it."""
    findings: dict[str, dict[str, Any]] = {}
    for experiment in run.experiments:
        for finding in experiment.diagnosis["findings"]:
            if finding["verdict"] == "found":
                findings.setdefault(finding["name"], {**finding, "experiments": []})["experiments"].append(
                    experiment.name
                )
    return sorted(findings.values(), key=lambda finding: SEVERITY[finding["severity"]])


def _retrieval(run: Run, rows: list[dict[str, Any]]) -> str:
    better = [row["experiment"] for row in rows if row["better_than_chance"]]
    best = min(rows, key=lambda row: row["share"])
    both_ways = [row for row in rows if row["experiment"] == best["experiment"]]
    ranks = " and ".join(
        f"{_short(row['median'])} [{_short(row['median_low'])}, {_short(row['median_high'])}] for "
        f"{WAYS[row['direction']]}"
        for row in both_ways
    )
    total = len(run.experiments)
    verdict = (
        f"{len(set(better))} of {total} experiments retrieve the positive better than chance in at least one direction"
        if total > 1
        else f"“{best['experiment']}” retrieves the positive better than chance in {len(better)} of 2 directions"
    )
    return (
        f"{verdict}. The lowest median rank is that of “{best['experiment']}”: {ranks}, among {best['gallery']:,} test "
        f"segments, where chance is {_short(best['median_chance'])}."
    )


def _formula(rows: list[dict[str, Any]]) -> str | None:
    known = [row["published_formula"] for row in rows if row["published_formula"] is not None]
    if not known:
        return None
    true = [row["median"] for row in rows]
    return (
        f"The formula of the paper’s published code gives {_short(min(known))} to {_short(max(known))} for the same "
        f"embeddings, whose true median ranks lie between {_short(min(true))} and {_short(max(true))}: it does "
        "not measure ranks."
    )


def _probes(run: Run, lead: ExperimentRun) -> list[str]:
    sentences = []
    for task, probed in lead.probes.items():
        compared = next(
            (
                comparison
                for comparison in probed["comparisons"]
                if (comparison["level"], comparison["probe"], comparison["metric"], comparison["a"], comparison["b"])
                == ("video", "perceptron", "auc", "cl_aggregated", "audio_video")
            ),
            None,
        )
        if compared is None or compared["low"] is None:  # not measured, or not defined
            continue
        values = {
            result["representation"]: result["metrics"]["auc"]["value"]
            for space in (run.features_of(lead), lead)
            if space
            for result in space.probes[task]["results"]
            if (result["level"], result["probe"]) == ("video", "perceptron")
        }
        difference, differs = compared["difference"], compared["differs"]
        verdict = ("better" if difference > 0 else "worse") if differs else "not distinguishable"
        interval = f"difference {difference:+z.2f} [{compared['low']:+z.2f}, {compared['high']:+z.2f}]"
        sentences.append(
            f"For {task}, “{lead.name}” (mean of audio and video) has ROC-AUC {values['cl_aggregated']:.2f}, the "
            f"backbones’ concatenated features {values['audio_video']:.2f}: {verdict}, {interval}."
        )
    return sentences


def _neighbours(lead: ExperimentRun) -> str | None:
    lines = [line for line in lead.neighbours["agreement"] if (line["label"], line["level"]) == ("genre", "video")]
    if not lines:
        return None
    better = [WAYS[line["by"]] for line in lines if line["better_than_chance"]]
    best = max(lines, key=lambda line: line["value"])
    return (
        f"In the embeddings of “{lead.name}”, the {best['k']} nearest videos of other groups (artists) share the genre "
        f"in at most {best['value']:.0%} of cases (by {WAYS[best['by']]}; all of them: {best['chance']:.0%}); above "
        f"chance: {', '.join(better) or 'none'}."
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.1f}"
