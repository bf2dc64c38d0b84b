"""Results folders that were copied or moved: the place of their `config.json` decides, not the path that it names.

Reads the folder of the file; writes nothing but the note of `unnoticed`.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from config.cli import UserError
from config.files import read_json, write_json

PATH_KEYS = (
    "videos",
    "backbones.*.weights",
    "decoding.remote.ca_file",
    "labels.genre.source",
    "labels.genre.tracks",
    "labels.tagging.source",
    "labels.tagging.tracks",
    "labels.msd_summary",
    "labels.musicnn_training_list",
    "study.paper_code.clone",
    "study.paper_code.checkpoints",
)
"""The keys of all paths but `results`; `*` is any name."""
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


def unnoticed(note: Path, before: dict[str, Any] | None, now: dict[str, Any]) -> str | None:
    """Return a warning of settings that have changed without Snakemake's knowing it, and write down this start.

    `note`: file with the folder and the name of the results of the last start; `before`, `now`: the resolved
    configurations of the last start and of this one. Snakemake keeps what its jobs ran with in the folder in which it
    is started, under the paths of their outputs.
    """
    start = {"folder": os.getcwd(), "results": now["results"]}
    last = read_json(note)
    if last != start:
        write_json(note, start)
    changed = [key for key in now if before is not None and key != "results" and before.get(key) != now[key]]
    if last in (None, start) or not changed:
        return None
    return (
        f"WARNING: the last run on these results was started in {last['folder']} with `results: {last['results']}`, "
        f"and since then {', '.join(changed)} changed. Snakemake remembers only there with which settings it made "
        "what: from here it finds new videos and backbones, but keeps what is finished with other settings. Start it "
        "there, or force what is to be made again (docs/cluster.md, Run one stage again)"
    )


def absolute(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration (`Config.model_dump(mode="json")`) with absolute paths, because modules may be started in
    any folder. `results` stays: `placed` has it."""
    raw = copy.deepcopy(raw)
    for key in PATH_KEYS:
        *outer, last = key.split(".")
        sections = [raw]
        for name in outer:
            inner = (value for section in sections for value in (section.values() if name == "*" else [section[name]]))
            sections = [section for section in inner if section is not None]
        for section in sections:
            value = section[last]
            is_name = (last == "weights" and not is_path(value)) or (last == "source" and value == "manifest")
            if isinstance(value, list):
                section[last] = [_absolute(path) for path in value]
            elif value is not None and not is_name:
                section[last] = _absolute(value)
    return raw


def is_path(weights: str) -> bool:
    """Return whether `backbones.*.weights` is the path of a local file or folder; else it is a name."""
    return any(sign in weights for sign in ("/", os.sep, "."))


def _absolute(text: str) -> str:
    """Return a path of a dumped configuration, in which `$$` is a dollar sign, from the root on."""
    whole = os.path.join(os.getcwd(), text.replace("$$", "$"))
    plain = os.path.normpath(whole)
    if os.path.realpath(plain) != os.path.realpath(whole):  # behind a link, `..` is another folder
        plain = whole
    return plain.replace("$", "$$")


def _same(here: Path, results: str) -> bool:
    return here.resolve() == Path(results).resolve()
