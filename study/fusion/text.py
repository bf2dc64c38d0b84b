"""Texts of the answer about fusion, made from its tables. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from config.model import Config
from study.answer import Finding, Row

ALONE = ("audio alone", "video alone")
BASELINE = "concatenation"
TASKS = {"genre": "genres", "tagging": "tags"}
METHOD = """
For each task the labelled videos with features of both modalities ({counts}); features are standardised over the
training split, so that a missing modality, replaced by the training mean, is zero. Networks: a perceptron with one
hidden layer of {hidden} on either modality alone and on both concatenated (early fusion); a gated multimodal unit
(Arevalo et al. 2017, arXiv 1702.01992); low-rank bilinear fusion of rank 4 (Liu et al. 2018, arXiv 1806.00064);
cross-attention between the segments of both modalities (Tsai et al. 2019, arXiv 1906.00295), while all others see the
mean of a video's segments; and the same perceptron on {components} canonical variates of each modality, computed
without labels by regularised linear CCA (Hotelling 1936; Vinod 1976), with the shrinkage that correlates best on the
validation split. Widths are such that all fusions of features have about as many parameters. All are trained with AdamW
(learning rate {rate}, batches of {batch} videos, at most {epochs} epochs, the one with the lowest validation loss is
kept), each once plainly and once with modality dropout ({lost:.0%} of the videos of an epoch lose one modality;
Neverova et al. 2016, arXiv 1501.00102). Values are macro means over the classes and means over the seeds, with 95 %
intervals by {bootstrap} resamples of the test videos’ groups (artists). A difference counts if its interval over the
same resamples, widened for the number of comparisons of a task in all metrics (Bonferroni), and Welch's interval over
the seeds both exclude 0.
"""


def findings(tables: dict[str, list[Row]]) -> list[Finding]:
    """Return for each task: both modalities against one, fusions against concatenation, and a missing modality."""
    results = []
    for task in dict.fromkeys(row["task"] for row in tables["fusions"]):
        of_task = {name: [row for row in rows if row["task"] == task] for name, rows in tables.items()}
        results += [_together(task, of_task), _ways(task, of_task), _missing(task, of_task)]
    return results


def _together(task: str, tables: dict[str, list[Row]]) -> Finding:
    gaps = {row["fusion"]: row for row in tables["differences"] if row["metric"] == "auc" and row["fusion"] in ALONE}
    parts = []
    for name in ALONE:
        verdict = "not shown to be better than"
        if gaps[name]["differs"]:
            verdict = "better than" if gaps[name]["difference"] < 0 else "worse than"
        parts.append(f"{verdict} {name}")
    values = {
        row["fusion"]: row for row in tables["fusions"] if not row["modality_dropout"] and row["missing"] == "nothing"
    }
    return Finding(
        f"For {TASKS[task]}, concatenated audio and video are {parts[0]}, and {parts[1]}.",
        "; ".join(f"{name}: macro ROC-AUC {_value(values[name])}" for name in (BASELINE, *ALONE)) + ".",
    )


def _ways(task: str, tables: dict[str, list[Row]]) -> Finding:
    gaps = [row for row in tables["differences"] if row["metric"] == "auc" and row["fusion"] not in ALONE]
    plain = [row for row in gaps if not row["modality_dropout"]]
    better = [row["fusion"] for row in plain if row["differs"] and row["difference"] > 0]
    worse = [row["fusion"] for row in plain if row["differs"] and row["difference"] < 0]
    claim = f"For {TASKS[task]}, better than concatenation: {', '.join(better)}"
    if not better:
        claim = f"For {TASKS[task]}, no fusion is shown to be better than concatenation"
    claim += f"; worse: {', '.join(worse)}." if worse else "."
    return Finding(claim, "; ".join(f"{row['fusion']} {_gap(row)}" for row in plain) + " in macro ROC-AUC.")


def _missing(task: str, tables: dict[str, list[Row]]) -> Finding:
    parts = []
    for missing in ("audio", "video"):
        rows = [row for row in tables["fusions"] if row["missing"] == missing and row["auc"] is not None]
        plain, dropped = ([row["auc"] for row in rows if row["modality_dropout"] == kind] for kind in (False, True))
        parts.append(
            f"with {missing} missing, the fusions' ROC-AUC is {min(plain):.3f} to {max(plain):.3f}, and after modality "
            f"dropout {min(dropped):.3f} to {max(dropped):.3f}"
        )
    gaps = [row for row in tables["missing"] if row["metric"] == "auc"]
    worse = [row["modality_dropout"] for row in gaps if row["differs"] and row["difference"] < 0]
    count = len(gaps) // 2
    return Finding(
        f"For {TASKS[task]}, {'; '.join(parts)}.",
        f"Compared with a network trained only on the modality that is left, {worse.count(False)} of {count} (every "
        f"fusion with either modality missing) are worse, after modality dropout {worse.count(True)} of {count}.",
    )


def _value(row: Row) -> str:
    return f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]"


def _gap(row: Row) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def method(config: Config, tasks: dict[str, Any]) -> str:
    """Return a paragraph on data, models, budget and statistics; `tasks` as the trainings' metadata has them."""
    settings = config.study.fusion
    counts = "; ".join(
        f"{name}: {', '.join(f'{len(rows)} {split}' for split, rows in about['rows'].items())}, "
        f"{len(about['classes'])} classes"
        for name, about in tasks.items()
    )
    text = METHOD.format(
        counts=counts,
        hidden=settings.hidden,
        components=settings.components,
        rate=settings.learning_rate,
        batch=settings.batch,
        epochs=settings.max_epochs,
        lost=settings.lost,
        bootstrap=config.eval.bootstrap,
    )
    return " ".join(text.split())


def limits() -> list[str]:
    """Return what the answer does not show."""
    return [
        "Labels of rendered videos are those of the audio; video predicts them only as far as it is correlated with "
        "audio (`render.correlation`).",
        "Every network has the same settings; none was tuned. On a small collection all of them overfit early, "
        "which favours few parameters.",
        "Replacing a missing modality by the mean is the simplest way; a network that knows which one is missing may "
        "do better.",
        "Thresholds for F1 are chosen with both modalities and kept when one is missing: F1 then also reflects the "
        "shift of the probabilities.",
    ]
