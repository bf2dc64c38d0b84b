"""Texts of the findings of eval/diagnose: what each means and what to try. Reads and writes nothing."""

from __future__ import annotations

from typing import Literal

Severity = Literal["broken", "weak", "note"]
"""`broken`: the experiment's numbers are invalid; `weak`: they are valid and poor; `note`: to keep in mind."""

WORDS: dict[str, tuple[Severity, str, str]] = {
    "constant_features": (
        "broken",
        "The features of one modality are constant: the same for all videos, as those of silence or black frames "
        "are. Nothing can be learnt from them, and all results are at chance.",
        "Watch and listen to some of the videos, and check the decoder; see `failures.csv` and `pipeline.status`.",
    ),
    "loss_floor": (
        "weak",
        "With this activation and temperature even perfect embeddings leave the loss near chance: a loss that hardly "
        "falls tells nothing here, and gradients are weak. So it is with the paper's recipe (sigmoid, temperature 1).",
        "Set `output: linear` and a lower `temperature` (0.07), and judge by ranks, not by the loss.",
    ),
    "loss_not_falling": (
        "weak",
        "Neither training nor validation loss left the chance level: nothing was learnt.",
        "Try another learning rate; check whether the backbones have random weights, and whether audio and video "
        "belong together.",
    ),
    "chance_ranks": (
        "weak",
        "On test videos the positive does not rank better than by chance.",
        "See the other findings, which usually name the cause. If there are none, the features may share no "
        "information.",
    ),
    "memorised_pairs": (
        "weak",
        "The heads overfit: they learnt the training pairs, which does not help to retrieve test pairs.",
        "More videos, more `dropout`, narrower heads; and check whether the pairs are shuffled.",
    ),
    "shuffled_pairs": (
        "broken",
        "A linear map fitted on the cached pairs retrieves test positives, the trained heads do not, though they did "
        "not collapse: training saw other pairs than the cache has, or did not converge.",
        "Check how batches pair audio and video (the same video and segment?); if they are right, try another "
        "learning rate.",
    ),
    "shuffled_or_unrelated_pairs": (
        "weak",
        "Neither the heads nor a linear map of the features retrieve test positives: audio and video are shuffled in "
        "the cache, or the features share no information.",
        "Watch and listen to some videos: do `path`, audio and video belong together? Are the weights random?",
    ),
    "constant_output": (
        "broken",
        "All items have the same embedding in one modality: all candidates tie.",
        "Try a lower learning rate or `output: linear`; look for a dead layer or constant features.",
    ),
    "collapse": (
        "weak",
        "The embeddings use few of their dimensions: all items are alike.",
        "Try a lower temperature, larger batches, `output: linear`.",
    ),
    "modality_gap": (
        "note",
        "Audio and video embeddings lie farther apart than those of one modality: cosines across modalities mean "
        "little in absolute terms, and means over both modalities mix two clusters.",
        "Learn the temperature; subtract the mean of each modality before comparing.",
    ),
    "train_mode_batch_norm": (
        "broken",
        "The stored embeddings differ from those of a segment alone and are nearer to those of batch norm in training "
        "mode: they depend on the other items of the batch.",
        "Call `model.eval()` before embedding, then embed again.",
    ),
    "other_weights": (
        "broken",
        "The stored embeddings are not those of the checkpoint's heads, not in training mode either.",
        "Embed again: `snakemake train …`. If that changes nothing, dropout was on, or the checkpoint was replaced.",
    ),
    "neighbours_without_labels": (
        "weak",
        "Nearest neighbours of other groups (artists) share a genre no more often than random videos of them do.",
        "Check whether the labels are right, and measure the same on the backbones' features.",
    ),
    "downstream_below_features": (
        "weak",
        "A probe on the embeddings does worse than one on the features: the projection lost information that the task "
        "needs.",
        "Use the features themselves, wider embeddings, or the layer before the last.",
    ),
}
"""Finding: (severity, what it means, what to try)."""
