"""Texts of the answer about pooling, made from its tables. Reads and writes nothing."""

from __future__ import annotations

from config.heads import MODALITIES
from config.model import Config
from study.answer import Finding, Row

PAPER, FEW = "mean after training", "mean after (one segment)"
MEAN = "mean"
METHOD = """
{train} training, {validation} validation and {test} test videos, {segments} segments each. A segment's features go
through the `recommended` projection head, the unit vectors of a video through the pooling, and the contrastive loss
compares videos. Poolings: mean; maximum; one learned weight a position; attention (Ilse et al. 2018, arXiv
1802.04712); hierarchical attention over pairs of segments, then over the pairs (Yang et al. 2016, NAACL N16-1174); a
transformer layer with positions (Vaswani et al. 2017, arXiv 1706.03762); and the mean followed by a layer, which has
as many parameters as the larger poolings but no view of single segments. All but the maximum start as the mean. The
paper trains on single segments and averages unit vectors afterwards. With the same seed all trainings start from the
same heads; all have the same optimiser, {batch} videos a batch and at most {epochs} epochs, of which the one with the
lowest validation loss is kept. An epoch over segments has more steps than one over videos, by the number of segments a
video; training on segments is therefore also shown with as few steps. Inconsistency is the mean squared distance of two
segments of one video divided by that of two videos' (features standardised over the training split); it is varied by
replacing video segments by other videos' segments in every split. Metrics are those of whole test videos, means over
seeds and both directions, with 95 % intervals by {bootstrap} resamples of the test videos’ groups (artists). Findings
rest on the mean reciprocal rank: a difference to the mean counts if its interval over the same resamples, widened for
the number of poolings (Bonferroni), and Welch's interval over the seeds both exclude 0.
"""


def findings(tables: dict[str, list[Row]]) -> list[Finding]:
    """Return the findings: poolings against the mean, training on segments or end to end, inconsistency, robustness."""
    plain = {row["pooling"]: row for row in tables["poolings"]}
    gaps = {row["pooling"]: row for row in tables["differences"] if row["metric"] == "mrr"}
    return [
        _best(plain, gaps),
        _trained_on_segments(plain, gaps),
        *(_inconsistency(tables, modality) for modality in MODALITIES),
        _robust(tables),
    ]


def _best(plain: dict[str, Row], gaps: dict[str, Row]) -> Finding:
    end_to_end = {name: row for name, row in gaps.items() if not name.startswith("mean after")}
    better = [name for name, row in end_to_end.items() if row["better"] == "this"]
    worse = [name for name, row in end_to_end.items() if row["better"] == MEAN]
    claim = (
        f"Trained end to end, {_list(better)} {_is(better)} better than the mean"
        if better
        else "Trained end to end, no pooling is shown to be better than the mean"
    ) + (f"; {_list(worse)} {_is(worse)} worse." if worse else ".")
    widest = max(end_to_end.values(), key=lambda row: row["difference"])
    return Finding(
        claim,
        f"Mean reciprocal rank among {plain[MEAN]['gallery']} videos: mean {_value(plain[MEAN], 'mrr')}, chance "
        f"{plain[MEAN]['mrr_chance']:.3f}. The largest gain is that of {widest['pooling']}, {_gap(widest)}.",
    )


def _trained_on_segments(plain: dict[str, Row], gaps: dict[str, Row]) -> Finding:
    """Compare the paper's way with as many passes over the segments, and with as many steps: not both can be equal."""
    verdicts = {"this": "better than", MEAN: "worse than", None: "not shown to differ from"}
    passes, steps = verdicts[gaps[PAPER]["better"]], verdicts[gaps[FEW]["better"]]
    return Finding(
        f"Training on single segments and averaging afterwards, as the paper does, is {passes} training through the "
        f"mean at equal passes over the segments, and {steps} it at equal steps.",
        "; ".join(f"{name}, {plain[name]['steps']} steps: {_value(plain[name], 'mrr')}" for name in (PAPER, FEW, MEAN))
        + f". Differences to the mean: {_gap(gaps[PAPER])}; {_gap(gaps[FEW])}.",
    )


def _inconsistency(tables: dict[str, list[Row]], modality: str) -> Finding:
    row = next(row for row in tables["inconsistency"] if row["side"] == modality and row["replaced"] == 0)
    hardness = next(row for row in tables["hard_videos"] if row["side"] == modality and row["pooling"] == MEAN)
    if row["ratio"] is None or hardness["spearman"] is None:
        return Finding(f"The inconsistency of {modality} within a video cannot be measured.", _why(row))
    verdict = "worse" if hardness["low"] > 0 else "better" if hardness["high"] < 0 else None
    effect = f"more inconsistent videos rank {verdict}" if verdict else "no effect on the rank of a video is shown"
    return Finding(
        f"In {modality}, the squared distance of two segments of one video is {row['ratio']:.0%} of that of two "
        f"videos'; {effect}.",
        f"Ratio {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of mean squared distances; Spearman's "
        f"correlation of a video's inconsistency with its rank by the mean {hardness['spearman']:.2f} "
        f"[{hardness['low']:.2f}, {hardness['high']:.2f}].",
    )


def _why(row: Row) -> str:
    if row["ratio"] is None:
        return "The features are constant, in all segments of all videos."
    return "All videos are equally inconsistent, or all have the same rank."


def _robust(tables: dict[str, list[Row]]) -> Finding:
    most = max(row["replaced"] for row in tables["degradation"])
    level = {(row["pooling"], row["replaced"]): row for row in tables["degradation"]}
    gaps = [row for row in tables["degradation_differences"] if row["replaced"] == most and row["metric"] == "mrr"]
    better, worse = ([row["pooling"] for row in gaps if row["better"] == winner] for winner in ("this", MEAN))
    parts = [f"{_list(names)} {_is(names)} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
    verdict = " and ".join(parts) if parts else "no pooling is shown to be better or worse"
    return Finding(
        f"With {most} video segments of each video replaced by other videos' segments, the mean's MRR goes from "
        f"{level[MEAN, 0]['mrr']:.3f} to {level[MEAN, most]['mrr']:.3f}. There {verdict} than the mean.",
        f"Intervals [{level[MEAN, 0]['mrr_low']:.3f}, {level[MEAN, 0]['mrr_high']:.3f}] and "
        f"[{level[MEAN, most]['mrr_low']:.3f}, {level[MEAN, most]['mrr_high']:.3f}]; averaged after training, MRR goes "
        f"from {level[PAPER, 0]['mrr']:.3f} to {level[PAPER, most]['mrr']:.3f}.",
    )


def _list(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is(names: list[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _value(row: Row, metric: str) -> str:
    return f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"


def _gap(row: Row) -> str:
    seeds = "" if row["seeds_low"] is None else f", over the seeds [{row['seeds_low']:+.3f}, {row['seeds_high']:+.3f}]"
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{seeds}"


def method(config: Config, videos: dict[str, int]) -> str:
    """Return a paragraph on data, models, budget and statistics; `videos` is their number by split."""
    recipe = config.study.aggregation.recipe
    budget = {"segments": config.segments.count, "batch": recipe.batch, "epochs": recipe.max_epochs}
    return " ".join(METHOD.format(**videos, **budget, bootstrap=config.eval.bootstrap).split())


def limits(config: Config, tables: dict[str, list[Row]]) -> list[str]:
    """Return what the answer does not show."""
    rows = tables["poolings"]
    unfinished = sum(row["best_epoch"] > config.study.aggregation.recipe.max_epochs - 1 for row in rows)
    return [
        "Equal epochs are not equal convergence: poolings with more parameters may need more videos than a small "
        "collection has, and training on segments takes more steps, which may be its whole gain. Of "
        f"{len(rows)} ways, {unfinished} had their lowest validation loss in the last epoch and might gain from more.",
        "Replaced segments are unrelated to the video, whereas a real video's inconsistent shots still belong to it; "
        "only video is replaced, never audio.",
        "Queries are resampled, the gallery is not: intervals hold for other queries in this gallery.",
        "In rendered videos, audio and video share no order of events beyond single segments: a transformer's "
        "positions cannot help there.",
    ]
