"""What the ablation compares: from one experiment to another, one group of settings at a time. No files.

Both experiments are of `heads.experiments` (`study.ablation.first` and `last`). A `Change` is a group of settings that
belong together. An arm is the first experiment with some of the changes, in the order of CHANGES: the chain adds one
change after the other, until it is the last experiment; a single arm has one change alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from config.heads import Experiment

START = "start"
MODE = "mode"
"""The change from features of a backbone in training mode to those of the same in evaluation mode."""


@dataclass(frozen=True)
class Change:
    """A group of settings that change together."""

    name: str
    title: str
    keys: tuple[str, ...]
    """Fields of `config.heads.Experiment`."""


CHANGES: dict[str, Change] = {
    change.name: change
    for change in (
        Change(MODE, "evaluation mode", ()),
        Change("inputs", "standardised inputs", ("standardise",)),
        Change("temperature", "temperature", ("temperature", "learned_temperature")),
        Change("output", "output layer", ("output",)),
        Change(
            "optimiser",
            "optimiser and schedule",
            (
                *(
                    "optimiser",
                    "learning_rate",
                    "weight_decay",
                    "momentum",
                    "schedule",
                    "decay",
                    "warmup",
                    "max_epochs",
                ),
                *("patience", "normalisation", "shuffle", "repeat_step"),
            ),
        ),
        Change(
            "heads",
            "other settings of the heads",
            (
                *("hidden", "activation", "dropout", "embedding", "audio", "video"),
                *("loss", "bias", "initialisation", "autoencoder"),
            ),
        ),
        Change("batch", "batch size", ("batch",)),
        Change("segments", "segments", ("segment_policy",)),
    )
}
"""Every field of an experiment is in one of them, in the order in which the chain changes them."""


@dataclass(frozen=True)
class Arm:
    """The first experiment with some changes; `experiment` is what is trained."""

    changes: tuple[str, ...]
    """Names in CHANGES, in their order."""
    experiment: Experiment

    @property
    def name(self) -> str:
        """The changes' names, joined; `start` without any."""
        return "+".join(self.changes) or START


def differing(first: Experiment, last: Experiment, leave_out: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the changes that make `first` into `last`, in the chain's order.

    `leave_out` are changes that mean nothing on the data at hand.
    """
    return [
        name
        for name, change in CHANGES.items()
        if name not in leave_out and any(getattr(first, key) != getattr(last, key) for key in change.keys)
    ]


def changed(first: Experiment, last: Experiment, changes: tuple[str, ...]) -> Experiment:
    """Return `first` with the values that `last` has for the keys of these changes. ValidationError if they clash."""
    values = {key: getattr(last, key) for name in changes for key in CHANGES[name].keys}
    return Experiment.model_validate(first.model_copy(update=values).model_dump())


def arms(
    first: Experiment, last: Experiment, train_mode: bool, leave_out: tuple[str, ...] = ()
) -> tuple[list[Arm], list[Arm]]:
    """Return the chain, which begins with the first experiment unchanged, and the single arms, in the same order.

    With `train_mode` the first change is that of the features. A single arm equals one of the chain where it can:
    equal names are one training.
    """
    names = [*([MODE] if train_mode else []), *differing(first, last, leave_out)]
    chain = [tuple(names[:count]) for count in range(len(names) + 1)]
    return (
        [Arm(changes, changed(first, last, changes)) for changes in chain],
        [Arm((name,), changed(first, last, (name,))) for name in names],
    )
