"""The answer about pooling in words, each sentence from the tables' numbers. Reads and writes nothing."""

from __future__ import annotations

from config.model import Config
from eval.study.answer import Finding, Row

PAPER, FEW = "mean after training", "mean after (one segment)"
MEAN = "mean"
SIDES = {"audio": "sound", "video": "pictures"}
METHOD = """
{train} training, {validation} validation and {test} test videos, {segments} segments each. A segment's features go
through the `recommended` projection head, the unit vectors of a video through the pooling, and the contrastive loss
compares videos. Poolings: mean; maximum; one learned weight a position; attention (Ilse et al. 2018, arXiv
1802.04712); hierarchical attention over pairs of segments, then over the pairs (Yang et al. 2016, NAACL N16-1174); a
transformer layer with positions (Vaswani et al. 2017, arXiv 1706.03762); and the mean with a layer behind it, which
has as many parameters as the larger poolings but sees no single segment. All but the maximum start as the mean. The
paper's own way trains on single segments and averages unit vectors afterwards. By its seed every training has the same
initial heads; all have the same optimiser, {batch} videos a batch and at most {epochs} epochs, of which the one with
the lowest validation loss is kept. Training on segments takes as many more steps as a video has segments, and is shown
with as few steps too. Inconsistency is the mean squared distance of two segments of one video by that of two videos'
(features standardised over the training split); it is varied by replacing segments' pictures by other videos' in every
split. Values are true ranks of whole test videos, means over seeds and both directions, with 95 % intervals by
{bootstrap} resamples of the test videos. A difference to the mean is called one if its interval over the same
resamples, widened for the number of poolings (Bonferroni), and Welch's over the seeds both leave 0 out.
"""


def findings(tables: dict[str, list[Row]]) -> list[Finding]:
    """What came out: poolings against the mean, training on segments against end to end, inconsistency, robustness."""
    plain = {row["pooling"]: row for row in tables["poolings"]}
    gaps = {row["pooling"]: row for row in tables["differences"] if row["metric"] == "mrr"}
    return [
        _best(plain, gaps),
        _trained_on_segments(plain, gaps),
        *(_unlike(tables, side) for side in SIDES),
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
        f"Mean reciprocal rank among {plain[MEAN]['gallery']} videos: mean {_value(plain[MEAN], 'mrr')}, guessing "
        f"{plain[MEAN]['mrr_chance']:.3f}. The largest gain is that of {widest['pooling']}, {_gap(widest)}.",
    )


def _trained_on_segments(plain: dict[str, Row], gaps: dict[str, Row]) -> Finding:
    """The paper's way is shown with as many passes over the segments, and with as many steps: it cannot have both."""
    said = {"this": "better than", MEAN: "worse than", None: "not shown to differ from"}
    passes, steps = said[gaps[PAPER]["better"]], said[gaps[FEW]["better"]]
    return Finding(
        f"Training on single segments and averaging afterwards, as the paper does, is {passes} training through the "
        f"mean with as many passes over the segments, and {steps} it with as many steps.",
        "; ".join(f"{name}, {plain[name]['steps']} steps: {_value(plain[name], 'mrr')}" for name in (PAPER, FEW, MEAN))
        + f". Differences to the mean: {_gap(gaps[PAPER])}; {_gap(gaps[FEW])}.",
    )


def _unlike(tables: dict[str, list[Row]], side: str) -> Finding:
    row = next(r for r in tables["inconsistency"] if r["side"] == side and r["replaced"] == 0)
    harder = next(r for r in tables["hard_videos"] if r["side"] == side and r["pooling"] == MEAN)
    said = "are found worse" if harder["low"] > 0 else "are found better" if harder["high"] < 0 else None
    which = SIDES[side]
    found = f"videos whose {which} change more {said}" if said else "that such videos are harder to find is not shown"
    return Finding(
        f"In {which}, the squared distance of two segments of one video is {row['ratio']:.0%} of that of two videos'; "
        f"{found}.",
        f"Ratio {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of mean squared distances; Spearman's "
        f"correlation of a video's inconsistency with its rank by the mean {harder['spearman']:.2f} "
        f"[{harder['low']:.2f}, {harder['high']:.2f}].",
    )


def _robust(tables: dict[str, list[Row]]) -> Finding:
    most = max(row["replaced"] for row in tables["degradation"])
    level = {(row["pooling"], row["replaced"]): row for row in tables["degradation"]}
    gaps = [r for r in tables["degradation_differences"] if r["replaced"] == most and r["metric"] == "mrr"]
    better, worse = ([r["pooling"] for r in gaps if r["better"] == side] for side in ("this", MEAN))
    parts = [f"{_list(names)} {_is(names)} {word}" for names, word in ((better, "better"), (worse, "worse")) if names]
    said = " and ".join(parts) if parts else "no way of pooling is shown to be better or worse"
    return Finding(
        f"With {most} of each video's picture segments from other videos, the mean's reciprocal rank goes from "
        f"{level[MEAN, 0]['mrr']:.3f} to {level[MEAN, most]['mrr']:.3f}. There {said} than the mean.",
        f"Intervals [{level[MEAN, 0]['mrr_low']:.3f}, {level[MEAN, 0]['mrr_high']:.3f}] and "
        f"[{level[MEAN, most]['mrr_low']:.3f}, {level[MEAN, most]['mrr_high']:.3f}]; averaged after training it goes "
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
    """Data, models, budget and statistics in one paragraph."""
    r = config.study.aggregation.recipe
    said = {"segments": config.segments.count, "batch": r.batch, "epochs": r.max_epochs}
    return " ".join(METHOD.format(**videos, **said, bootstrap=config.eval.bootstrap).split())


def limits(config: Config, tables: dict[str, list[Row]]) -> list[str]:
    """What the answer does not show."""
    rows = tables["poolings"]
    last = sum(row["best_epoch"] > config.study.aggregation.recipe.max_epochs - 1 for row in rows)
    return [
        "Equal epochs are not equal convergence: poolings with more parameters may need more videos than a small "
        "collection has, and training on segments takes more steps, which may be all that it gains by. Of "
        f"{len(rows)} ways, {last} had their lowest validation loss in the last epoch and might gain from more.",
        "Replaced segments are unrelated to the video, where a real video's inconsistent shots still belong to it; "
        "only pictures are replaced.",
        "The resamples are of queries: they say how sure the numbers are for other videos in this gallery.",
        "In rendered videos sound and picture share no order of events beyond what single segments show: a "
        "transformer's positions can find nothing there.",
    ]
