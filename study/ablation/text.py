"""Texts of the answer about the ablation, made from its tables. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from config.model import Config
from study.answer import Finding, Row

LEVEL = 0.05
GAINS = "MRR. "
"""Begins what lists the gains of single rows, which the tables have as well."""
KINDS = {
    "simulated": "simulated features, ρ = ",
    "rendered": "rendered videos, ρ = ",
    "real": "real videos",
}
METHOD = """
From the experiment `{first}` to `{last}`, one change at a time: each row of the chain has all changes of the rows above
it, and beside the chain each change stands alone. Every training takes {steps} optimiser steps, whatever its batches,
with {checks} validations, of which the one with the lowest validation loss is kept; learning rate schedules are
stretched over these steps. Sources: {sources}. {seeds} seeds, each with features simulated or videos paired anew; with
one seed all arms see the same data. Ranks are true ranks of whole test videos among all test videos of the source, the
mean over both directions; the first row is the published formula instead, on the same model as the second: video →
audio alone, counted from 0, as the published code prints it for both directions. The measure
that was named beforehand is the mean reciprocal rank (MRR). Intervals are by {bootstrap} resamples of whole groups
(artists) of test videos, the same ones for all arms, and by Student's t over the seeds, whose differences are paired. A
difference counts if the larger of both p-values is at most {level:g}. Those of steps and of single changes are
corrected for the number of such comparisons of a source (Holm 1979); the end of the chain against its beginning is one
comparison a source, and is not. {mode}
"""
NO_MODE = """The published code extracted features with the networks in training mode. The cache has no backbone that
was extracted so (`study.ablation.train_mode`), so that this step is left out."""
MODE = """The chain begins with features of {backbones}, extracted in training mode as in the published code, with batch
norm by the statistics of each segment's own frames (the published code's were those of whole batches)."""


def source_words(source: str) -> str:
    """Return a source's name for sentences."""
    kind, _, correlation = source.partition("_")
    return KINDS[kind] + correlation


def rows_of(rows: list[Row], source: str) -> list[Row]:
    """Select the rows of a source."""
    return [row for row in rows if row["source"] == source]


def findings(config: Config, tables: dict[str, list[Row]]) -> list[Finding]:
    """Return the findings: the whole way, the formula, the steps that count, and the single change that does most.

    Of two equal experiments there is only the formula to speak of.
    """
    steps, single = tables["steps"], tables["single"]
    names = list(dict.fromkeys(row["source"] for row in steps))
    chains = {source: rows_of(steps, source) for source in names}
    if not single:
        return [_formula(chains)]
    return [
        _whole(config, chains),
        _formula(chains),
        _steps(chains),
        _single(config, {source: rows_of(single, source) for source in names}),
    ]


def _whole(config: Config, chains: dict[str, list[Row]]) -> Finding:
    settings, parts, sure = config.study.ablation, [], []
    for source, rows in chains.items():
        end = rows[-1]
        parts.append(f"{source_words(source)}: {_verdict(end)}")
        sure.append(
            f"{source_words(source)}: median rank {_percent(rows[1])} to {_percent(end)} of the gallery (chance "
            f"{end['median_chance']:.1f} %), MRR {_gap(end, 'first', 'p')}"
        )
    compared = f"`{settings.last}` against `{settings.first}`"
    return Finding(f"With all changes, {compared}: {'; '.join(parts)}.", "; ".join(sure) + ".")


def _formula(chains: dict[str, list[Row]]) -> Finding:
    shown = [f"{source_words(source)}: {_percent(rows[0])}" for source, rows in chains.items()]
    true = [f"{source_words(source)}: {_percent(rows[1])}" for source, rows in chains.items()]
    formula, rank = (_range([rows[number]["median"] for rows in chains.values()]) for number in (0, 1))
    return Finding(
        f"The published formula shows {formula} of the gallery, where the true median rank of the same models is "
        f"{rank}; chance is half the gallery.",
        f"Formula: {'; '.join(shown)}. True: {'; '.join(true)}.",
    )


def _steps(chains: dict[str, list[Row]]) -> Finding:
    parts, sure = [], []
    for source, rows in chains.items():
        better, worse = ([row["step"] for row in rows[2:] if _counts(row, "before") == sign] for sign in (1, -1))
        helpful = ", ".join(better) or "none is shown to help"
        parts.append(f"{source_words(source)}: {helpful}" + (f" (worse: {', '.join(worse)})" if worse else ""))
        sure.append(f"{source_words(source)}: " + ", ".join(f"{row['step']} {_gap(row, 'before')}" for row in rows[2:]))
    return Finding(f"Steps that help, each against the one before: {'; '.join(parts)}.", GAINS + "; ".join(sure) + ".")


def _single(config: Config, singles: dict[str, list[Row]]) -> Finding:
    parts, sure = [], []
    for source, rows in singles.items():
        most = max(rows, key=lambda row: row["first_mrr"])
        shown = "" if _counts(most, "first") == 1 else ", though no difference is shown"
        parts.append(f"{source_words(source)}: {most['step']}{shown}")
        sure.append(f"{source_words(source)}: " + ", ".join(f"{row['step']} {_gap(row, 'first')}" for row in rows))
    return Finding(
        f"The single change to `{config.study.ablation.first}` with the largest gain: {'; '.join(parts)}.",
        GAINS + "; ".join(sure) + ".",
    )


def _counts(row: Row, prefix: str, tested: str = "holm") -> int:
    """Return 1 where a difference in MRR is shown to be a gain, -1 a loss, 0 neither; `tested` is `holm` or `p`."""
    if row[f"{prefix}_{tested}"] > LEVEL:
        return 0
    return 1 if row[f"{prefix}_mrr"] > 0 else -1


def _verdict(row: Row) -> str:
    """Return what all changes together do: one comparison a source, so that its p-value is as it is."""
    return {1: "better", -1: "worse", 0: "no difference is shown"}[_counts(row, "first", "p")]


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f} %"
    return high if f"{low} %" == high else f"{low} to {high}"


def _percent(row: Row) -> str:
    return f"{row['median']:.1f} % [{row['median_low']:.1f}, {row['median_high']:.1f}]"


def _gap(row: Row, prefix: str, tested: str = "holm") -> str:
    low, high = row[f"{prefix}_mrr_low"], row[f"{prefix}_mrr_high"]
    return f"{row[f'{prefix}_mrr']:+.3f} [{low:+.3f}, {high:+.3f}], p {row[f'{prefix}_{tested}']:.2g}"


def method(config: Config, same: dict[str, Any]) -> str:
    """Return a paragraph on arms, budget, sources and statistics; `same` as the trainings' metadata has it."""
    settings, groups = config.study.ablation, same["groups"]
    audio, video = same["dims"]
    sources = "; ".join(
        f"{source_words(name)} ({len(of_source)} test videos"
        + (f", {settings.videos} for training, {audio} and {video} features" if name.startswith("simulated") else "")
        + ")"
        for name, of_source in groups.items()
    )
    mode = NO_MODE
    if settings.train_mode is not None:
        named = [f"`{name}`" for name in (settings.train_mode.audio, settings.train_mode.video) if name]
        mode = MODE.format(backbones=" and ".join(named))
    text = METHOD.format(
        first=settings.first,
        last=settings.last,
        steps=settings.steps,
        checks=settings.checks,
        sources=sources,
        seeds=len(settings.seeds),
        bootstrap=config.eval.bootstrap,
        level=LEVEL,
        mode=mode,
    )
    return " ".join(text.split())


def limits(config: Config, tables: dict[str, list[Row]]) -> list[str]:
    """Return what the answer does not show."""
    settings = config.study.ablation
    rendered = [row["source"] for row in tables["steps"] if row["source"].startswith("rendered")]
    return [
        "The order of the chain is fixed: what a step does depends on the steps before it. The single changes show the "
        "other end.",
        f"Equal steps are no equal fairness: {settings.steps} may be too few for one arm and too many for another. "
        "`best_step` says where the lowest validation loss was.",
        "Queries are resampled, the gallery is not: intervals hold for other queries in this gallery.",
        *(
            ["Simulated features have one segment a video, so that the step `segments` means nothing there."]
            if settings.simulated
            else []
        ),
        *(
            ["Rendered videos show known ties between audio and video, not what real music videos have."]
            if rendered
            else []
        ),
    ]
