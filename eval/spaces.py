"""The arguments that say in which space something is measured. Reads and writes nothing."""

from __future__ import annotations

import argparse

from config.labels import FEATURES


def space_arguments(p: argparse.ArgumentParser) -> None:
    """Add the arguments that say in which space something is measured: embeddings, or features themselves."""
    p.add_argument("--experiment", metavar="NAME", help="the embeddings of one of heads.experiments")
    p.add_argument(
        "--space",
        metavar="NAME",
        default=FEATURES,
        help=f"without --experiment: the features of these backbones, {FEATURES} (heads.audio and heads.video) or "
        f"{FEATURES}-AUDIO-VIDEO for backbones of an experiment; default: {FEATURES}",
    )
