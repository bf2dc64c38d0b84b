"""What each finding of eval/diagnose means and what to try, in words. Reads and writes nothing."""

from __future__ import annotations

from typing import Literal

Severity = Literal["broken", "weak", "note"]
"""`broken`: the experiment's numbers are worth nothing; `weak`: they are right, and poor; `note`: bear in mind."""

WORDS: dict[str, tuple[Severity, str, str]] = {
    "loss_floor": (
        "weak",
        "With this activation and temperature even perfect embeddings leave the loss near chance: a loss that hardly "
        "falls says nothing here, and gradients are weak. The paper's recipe (sigmoid, temperature 1) is like this.",
        "Set `output: linear` and a lower `temperature` (0.07), and judge by ranks, not by the loss.",
    ),
    "loss_not_falling": (
        "weak",
        "Neither training nor validation loss left the chance level: nothing was learnt.",
        "Try another learning rate; look whether the features are of random weights, and whether sound and picture "
        "belong together.",
    ),
    "chance_ranks": (
        "weak",
        "On test videos the true partner does not rank better than by guessing.",
        "See what else is found here: it usually says why. If nothing is, these features may share nothing.",
    ),
    "memorised_pairs": (
        "weak",
        "Training pairs were learnt by heart, which does not help to find test pairs.",
        "More videos, more `dropout`, narrower heads; and see whether the pairs are shuffled.",
    ),
    "shuffled_pairs": (
        "broken",
        "A linear map fitted on the cached pairs finds test partners, the trained heads do not, though they did not "
        "collapse: training saw other pairs than the cache has, or got nowhere.",
        "Check how batches pair sound and picture (same video and segment on both sides?); if they are right, try "
        "another learning rate.",
    ),
    "shuffled_or_unrelated_pairs": (
        "weak",
        "Neither the heads nor a linear map of the features find test partners: sounds and pictures are shuffled in "
        "the cache, or these features share nothing.",
        "Look at some videos by ear and eye: do `path`, sound and picture belong together? Are the weights random?",
    ),
    "constant_output": (
        "broken",
        "One side gives all items the same embedding: all candidates tie.",
        "Try a lower learning rate or `output: linear`; look for a dead layer or constant features.",
    ),
    "collapse": (
        "weak",
        "The embeddings use next to none of their space: all items look alike.",
        "Try a lower temperature, larger batches, `output: linear`.",
    ),
    "modality_gap": (
        "note",
        "Sounds and pictures lie farther apart than sounds from each other: cosines across sides say little in "
        "absolute terms, and means over both sides mix two worlds.",
        "Learn the temperature; take each side's mean off before comparing.",
    ),
    "train_mode_batch_norm": (
        "broken",
        "The stored embeddings are not what the heads give a segment alone, but nearer to what batch norm gives in "
        "training mode: they depend on what else was in the batch.",
        "Call `model.eval()` before embedding, then embed again.",
    ),
    "other_weights": (
        "broken",
        "The stored embeddings are not what the checkpoint's heads give, in training mode neither.",
        "Embed again: `snakemake train …`. If that changes nothing, dropout was on, or the checkpoint was replaced.",
    ),
    "neighbours_without_labels": (
        "weak",
        "Nearest neighbours share a genre no more often than random videos do.",
        "Check whether the labels are right, and measure the same on the backbones' features.",
    ),
    "downstream_below_features": (
        "weak",
        "A probe on the embeddings does worse than on the features they came from: projecting lost what it needs.",
        "Use the features themselves, wider embeddings, or the layer before the last.",
    ),
}
"""Finding: (severity, what it means, what to try)."""
