"""The sentences of the answer about the authors' code; every number in them is in a table. Reads and writes nothing."""

from __future__ import annotations

from typing import Any

from config.model import Config
from config.study.paper_code import PAPER_COMMIT
from eval.paper import MEDIAN_RANKS
from study.answer import Finding, Row
from study.paper_code.checkpoints import BATCH, VALIDATION
from study.paper_code.clone import words
from study.paper_code.data import SHIFT

TITLE = "The authors' own code"
QUESTION = (
    "What does the evaluation of the authors' published code log for models that it trains itself, where the true rank "
    "of the positive is known, and can that code have made the paper's table 1?"
)
METHOD = """
The authors' data loader, `train()`, `validate()` and `get_validation_metrics()` are run from a clone of their
repository ({code}), unmodified, on one CPU core, with the options of their configuration (learning rate 0.01, Adam,
end after 2 rises of the validation loss in a row, batches of 1,000; here at most {epochs} epochs). To import them,
packages of their raw-media code are replaced by empty ones, `wandb` by one that only keeps what is logged,
`Tensor.cuda` returns the tensor, and the argument `volatile` of `Variable`, which PyTorch no longer has, is dropped.
`train()` names the classes of the single head; for the baseline the names of the two-head classes of the same module
stand there. {simulated} {cache} Their "median rank" is what they log in the last epoch. True ranks (eval/ranks.py)
are taken of the same embeddings, with the same similarity, the dot product, in the same galleries, and averaged over
both directions. Validation losses are the sum of both directions, so that chance is 2 ln n. Checkpoints are read
without running code of theirs.
"""
SIMULATED = """Simulated features: {factors} latent factors a modality that correlate by ρ, tanh(latents · random
layer) plus noise of standard deviation {noise:g}; {videos} training videos, validation galleries: {galleries} of
{gallery}; {shift:g} is added to the audio features of the single head, so that most are positive, as MusicNN's are."""
CACHE = """From the cache, segment 0 of each video whose modalities both have it: the training split, and the test split
as their validation videos, in whole galleries; features {fitted}."""


def findings(tables: dict[str, list[Row]], code: dict[str, Any]) -> list[Finding]:
    """Return the findings, the most important first."""
    simulated, cache = rows_of(tables["curves"], "simulated"), rows_of(tables["curves"], "cache")
    made = [_ranks(simulated)] if simulated else []
    made += [_cache(cache)] if cache else []
    made += [_losses(simulated)] if simulated else []
    return made + [_table1(tables, code), *(_checkpoint(row, tables["alternatives"]) for row in tables["checkpoints"])]


def rows_of(curves: list[Row], source: str, model: str | None = None) -> list[Row]:
    """Select the rows of a source, and of a model, by rising correlation."""
    rows = [row for row in curves if row["source"] == source and model in (None, row["model"])]
    return sorted(rows, key=lambda row: row["correlation"] or 0)


def models(curves: list[Row]) -> list[str]:
    """Return the models, in order."""
    return list(dict.fromkeys(row["model"] for row in curves))


def _span(values: list[float], digits: str = ".0f") -> str:
    low, high = format(min(values), digits), format(max(values), digits)
    return low if low == high else f"{low} to {high}"


def _ranks(rows: list[Row]) -> Finding:
    theirs = [row[f"theirs_percent_{end}"] for row in rows for end in ("least", "most")]
    first, last = rows[0]["correlation"], rows[-1]["correlation"]
    ends = []
    for model in models(rows):
        line = rows_of(rows, "simulated", model)
        at_last = f", {line[-1]['true_percent']:.2g} % at {last:g}" if last > first else ""
        ends.append(f"`{model}` {line[0]['true_percent']:.2g} % at ρ = {first:g}{at_last}")
    best = "; ".join(
        f"`{model}` " + ", ".join(f"{row['true_percent_best']:.2g}" for row in rows_of(rows, "simulated", model))
        for model in models(rows)
    )
    grid = ", ".join(f"{rho:g}" for rho in sorted({row["correlation"] for row in rows}))
    return Finding(
        f'The "median rank" that the authors\' code logs is {_span(theirs)} % of the gallery at every correlation, '
        f"while the true median rank of the same embeddings is: {'; '.join(ends)} (chance: 50 %).",
        f"Simulated features at ρ = {grid}, {rows[0]['seeds']} seeds each, galleries of {rows[0]['gallery']:,}; the "
        f"last epoch's model. By the model of the lowest validation loss, true median ranks in % by rising ρ: {best}.",
    )


def _losses(rows: list[Row]) -> Finding:
    parts = [
        f"`{model}` " + ", ".join(f"{row['best_validation_loss']:.2f}" for row in rows_of(rows, "simulated", model))
        for model in models(rows)
    ]
    return Finding(
        f"The validation loss of the authors' code does show the alignment: {'; '.join(parts)} by rising ρ, where "
        f"chance is {rows[0]['chance_loss']:.2f}.",
        "Lowest of each run's epochs, mean over seeds. The sigmoid leaves the baseline cosines between 0 and 1, so its "
        "loss could not fall by more than 2, even for a perfect model.",
    )


def _table1(tables: dict[str, list[Row]], code: dict[str, Any]) -> Finding:
    rows, logged = tables["table1"], tables["epochs"]
    inside, differ = sum(row["inside"] for row in rows), sum(not row["equal"] for row in rows)
    copied = sum(row["their_median_rank_a2v"] == row["their_median_rank_v2a"] for row in logged)
    if copied == len(logged):
        claim = (
            "This code, as it stands, cannot have made the paper's table 1: it logs the same number for both "
            f"directions, and the table has two different ones in {differ} of {len(rows)} rows."
        )
    else:
        claim = f"In {copied} of {len(logged)} epochs this code logs the same number for both directions."
    low, high = (rows[0][f"formula_any_model_{end}"] for end in ("low", "high"))
    return Finding(
        f"{claim} In {inside} of {len(rows)} rows both are where the published formula puts any model, {low:.0f} to "
        f"{high:.0f}.",
        f"Code: {words(code)}. The same number was logged in {copied} of {len(logged)} epochs. The range holds 95 % of "
        f"models, for {VALIDATION // BATCH} galleries of {BATCH:,}. The true median rank of a model at chance falls "
        "into it as well, so the numbers alone show neither. Which code made the table cannot be known from what is "
        "published.",
    )


def _checkpoint(row: Row, alternatives: list[Row]) -> Finding:
    single = row["model"].startswith("single_head")
    paper = MEDIAN_RANKS["single_head"]
    ranks = f", while table 1 has {paper['audio_to_video']} / {paper['video_to_audio']}" if single else ""
    below = row["below_chance_a_direction"]
    claim = (
        f"positives were closer than negatives by {below:.3f} nats a direction{ranks}"
        if below > 0
        else "it is no better than chance"
    )
    lines = [line for line in alternatives if line["file"] == row["file"]]
    others = []
    if below > 0 and lines:
        last = lines[-1]
        earlier = f" ({len(lines) - 1} ranges of smaller numbers: table `alternatives`)" if len(lines) > 1 else ""
        others.append(
            f"with {last['from_videos_95']:,} to {last['to_videos']:,} validation videos{earlier}, because the data "
            "loader drops an incomplete batch and leaves rows of zeros"
        )
    if below > 0:
        others.append(f"with validation batches of at most {int(row['batch_at_chance'])} pairs")
    why = f" Without any alignment that loss could come about {', or '.join(others)}." if others else ""
    affine = "were trained" if row["batch_norm_affine_trained"] else "are exactly 1 and 0, never trained"
    return Finding(
        f"The published checkpoint `{row['file']}` stores a validation loss of {row['best_rsum']:.3f}; chance is "
        f"{row['chance']:.3f} for galleries of {BATCH:,}. Taken at face value, {claim}.",
        f"Its layers are those of {row['model']}; epoch {row['epoch']}, {row['steps']:,} steps; the weights of batch "
        f"normalisation {affine}.{why} The authors' configuration has {VALIDATION:,} validation videos in batches of "
        f"{BATCH:,}; the checkpoint stores neither number.",
    )


def _cache(rows: list[Row]) -> Finding:
    parts = [
        f"`{row['model']}` {row['theirs_percent']:.0f} % by their code, {row['true_percent']:.2g} % truly"
        for row in rows
    ]
    intervals = "; ".join(
        f"`{row['model']}` {_ends(row, 'true_percent_groups')}, over the seeds {_ends(row, 'true_percent')}"
        for row in rows
    )
    return Finding(
        f"On the cache the median rank is: {'; '.join(parts)} (chance: {rows[0]['chance_percent']:.0f} % of "
        f"{rows[0]['gallery']:,}).",
        f"{rows[0]['train_videos']:,} training videos, {rows[0]['seeds']} seeds. 95 % intervals of the true ranks over "
        f"{rows[0]['groups']} groups of videos: {intervals}. Early stopping and ranks use the same videos, as in the "
        "authors' code.",
    )


def _ends(row: Row, column: str) -> str:
    """Return an interval in percent of the gallery; over few seeds it can reach beyond it."""
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return "unknown" if low is None else f"[{max(low, 0):.2g}, {min(high, 100):.2g}]"


def method(config: Config, same: dict[str, Any]) -> str:
    """Return the paragraph of method."""
    settings, simulation = config.study.paper_code, config.study.correlation.simulated
    fitted = "; ".join(f"{name} {how}" for name, how in same["fitted"].items())
    simulated = SIMULATED.format(
        factors=simulation.factors,
        noise=simulation.noise,
        videos=f"{settings.videos:,}",
        galleries=settings.galleries,
        gallery=f"{settings.gallery:,}",
        shift=SHIFT,
    )
    paragraph = METHOD.format(
        code=words(same["code"]),
        epochs=settings.max_epochs,
        simulated=simulated if settings.grid else "There were no simulated features.",
        cache=CACHE.format(fitted=fitted) if same["fitted"] else "The cache was not used.",
    )
    return " ".join(paragraph.split())


def limits(tables: dict[str, list[Row]], code: dict[str, Any]) -> list[str]:
    """List what the answer does not show."""
    items = []
    if not code["examined"]:
        items.append(
            f"The clone is not at the commit that this project examined ({PAPER_COMMIT[:7]}), or its modules were "
            "changed: what the texts say about the published code may not hold for it."
        )
    items += [
        "It shows what this code measures. It does not show which code made the paper's table, nor whether the paper's "
        "models were aligned.",
        "Simulated features are not the authors' features, whose backbones ran in training mode.",
    ]
    if tables["checkpoints"]:
        items.append(
            "A checkpoint says nothing of the data that its loss was measured on; the sizes are those of the published "
            "configuration."
        )
    if any(row["gallery"] < BATCH for row in tables["runs"]):
        items.append(f"Some galleries and batches are smaller than the authors' {BATCH:,}.")
    return items
