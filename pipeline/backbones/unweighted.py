"""A backbone that is a formula: it has nothing to learn and so no weights. Reads and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from config.cli import UserError
from pipeline.backbones.base import Backbone

NONE = "none"


class Unweighted(Backbone):
    """Base of backbones whose weights are `none`: an empty file, and a record that says so."""

    name: ClassVar[str]

    @classmethod
    def fetch(cls, source: str, seed: int, options: dict[str, Any], folder: Path) -> tuple[dict[str, np.ndarray], str]:
        """No tensors. UserError unless `source` is `none`."""
        if source != NONE:
            raise UserError(
                f"backbones.{cls.name}.weights: '{source}', but {cls.name} is computed by formulas that learn nothing "
                f"and have no weights; write `weights: {NONE}`"
            )
        return {}, "none: computed by formulas"
