"""Results folders that were copied or moved: the place of their `config.json` decides, not the path that it names.

Reads the folder of the file; writes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from config.cli import UserError

MARKS = ("manifest.json", "plan.json", "features.zarr")
"""Files of which a results folder has at least one as soon as work has been done in it."""


def placed(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration `raw`, read from `path`, with `results` set to the folder of the file.

    UserError if it names another folder and the file is not in a results folder.
    """
    here = path.absolute().parent
    if not isinstance(raw, dict) or not isinstance(raw.get("results"), str) or _same(here, raw["results"]):
        return raw
    if not any((here / mark).exists() for mark in MARKS):
        raise UserError(
            f"{path} says `results: {raw['results']}`, but does not lie in that folder, nor in a copy of it. --config "
            f"takes RESULTS/config.json: give {Path(raw['results']) / 'config.json'}, or copy all of the results."
        )
    return raw | {"results": str(path.parent)}


def check_not_a_copy(path: Path, raw: dict[str, Any], results: str) -> None:
    """Raise UserError if Snakemake was given the `config.json` of a copied results folder and would work on the
    original.

    `results`: the folder of this pass, after all options of the command line.
    """
    here = path.absolute().parent
    copied = path.name == "config.json" and any((here / mark).exists() for mark in MARKS)
    if copied and raw.get("results") == results and not _same(here, results):
        raise UserError(
            f"{path} lies in a results folder, but says `results: {results}`, which is another one. Add "
            f"`--config results={path.parent}` to work on this one, or give the configuration file of the other."
        )


def absolute(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with absolute paths of the table of videos and of the authors' code, because modules may
    be started in any folder."""
    if raw.get("videos") is not None:
        raw = raw | {"videos": os.path.abspath(raw["videos"])}
    code = raw.get("study", {}).get("paper_code", {})
    if code.get("clone") is not None or code.get("checkpoints"):
        clone = code.get("clone") and os.path.abspath(code["clone"])
        code = code | {"clone": clone, "checkpoints": [os.path.abspath(path) for path in code.get("checkpoints", [])]}
        raw = raw | {"study": raw["study"] | {"paper_code": code}}
    return raw


def _same(here: Path, results: str) -> bool:
    return here.resolve() == Path(results).resolve()
