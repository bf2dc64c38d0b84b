"""Write a selection of the cache in another format, for programs that do not read Zarr.

    python -m pipeline.export RESULTS audio.h5 --backbone musicnn --split test
    python -m pipeline.export RESULTS FOLDER --format webdataset

A file, by its ending:
  .h5, .hdf5   HDF5: a dataset a column, features [videos, segments, dim]
  .parquet     Parquet: features are lists of segments · dim numbers, the shape is in the column's metadata
A folder, by --format, with its card croissant.json (networks, weights and their licences, counts, digests):
  npy          BACKBONE.npy [videos, segments, dim] and rows.csv, in the same order
  webdataset   SPLIT-000000.tar … of ID.BACKBONE.npy [segments, dim] and ID.json
  hf           Parquet files by split that datasets.load_dataset("FOLDER") opens

Reads a finished cache; writes FILE or FOLDER, which must not exist yet, with the videos that have features of every
chosen backbone, in the order of their rows: the manifest's columns (`row` among them; in a folder, which is made to be
shared, without `path`) and the features, float16.
Nothing is pickled. An export that fails, or is ended by Ctrl-C, leaves nothing; one that is killed leaves .NAME.NUMBER
beside FILE, which may be deleted. An experiment's embeddings go into a FAISS index by `python -m heads.export`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.cli import UserError, parser, results_folder, run
from config.files import replacing
from data.splits import SPLITS
from pipeline.exports.croissant import write_card
from pipeline.exports.folders import to_hf, to_npy, to_webdataset
from pipeline.exports.selection import Selection
from pipeline.exports.single import to_hdf5, to_parquet
from pipeline.features import Features, open_features


@dataclass(frozen=True)
class Format:
    """A format: its function, its name in words, and the endings of its files; a folder has none."""

    write: Callable[[Path, Selection], None]
    words: str
    endings: tuple[str, ...] = ()


FORMATS = {
    "hdf5": Format(to_hdf5, "HDF5", (".h5", ".hdf5")),
    "parquet": Format(to_parquet, "Parquet", (".parquet",)),
    "npy": Format(to_npy, "NumPy arrays"),
    "webdataset": Format(to_webdataset, "WebDataset"),
    "hf": Format(to_hf, "Parquet files for the library datasets"),
}
"""Every format by its name in `--format`."""
FAISS = "faiss"
"""What people ask for here, and heads.export writes."""


def format_of(path: Path, name: str | None) -> str:
    """Return the name of the format for a path and what `--format` says, if anything. UserError if they do not fit."""
    if name == FAISS or path.suffix.lower() == f".{FAISS}":
        raise UserError(
            f"{path}: a FAISS index has embeddings, and is written by `python -m heads.export RESULTS FILE.faiss "
            "--experiment NAME --modality audio` (or video)"
        )
    if name is not None and name not in FORMATS:
        raise UserError(f"--format {name}: there are {', '.join(FORMATS)}")
    by_ending = next((each for each, known in FORMATS.items() if path.suffix.lower() in known.endings), None)
    if name is None and by_ending is None:
        files = ", ".join(ending for known in FORMATS.values() for ending in known.endings)
        folders = ", ".join(name for name, known in FORMATS.items() if not known.endings)
        raise UserError(f"{path}: the ending names the format of a file ({files}), --format a folder's ({folders})")
    if name is not None and by_ending is not None and name != by_ending:
        raise UserError(f"{path}: --format {name} is no file ending in {path.suffix}; leave --format or the ending out")
    chosen = name or by_ending
    assert chosen is not None
    if FORMATS[chosen].endings and by_ending is None:
        raise UserError(f"{path}: a file of --format {chosen} ends in {' or '.join(FORMATS[chosen].endings)}")
    return chosen


def export(
    features: Features,
    path: Path,
    backbones: list[str],
    split: Any = None,
    everything: bool = False,
    name: str | None = None,
) -> int:
    """Write the file or folder; return the number of videos. `everything`: also videos without features, as NaN.

    `name`: a format of FORMATS; None: by the path's ending. UserError for a format that does not fit the path, an
    unknown backbone, an empty selection, and a path that exists.
    """
    chosen = FORMATS[format_of(path, name)]
    for backbone in backbones:
        if backbone not in features.backbones:
            raise UserError(f"--backbone {backbone}: the cache has {features.backbones}")
    if path.exists():
        raise UserError(f"{path} exists; delete it, or choose another name")
    rows = features.rows(split, valid=() if everything else backbones)
    if not len(rows):
        raise UserError(f"{features.folder} has no video with features of {backbones} in the split '{split}'")
    # A folder is made to be shared, so it does not say where the videos lie on this machine.
    selection = Selection(features, backbones, rows, paths=bool(chosen.endings))
    if chosen.endings:
        with replacing(path) as temporary:
            chosen.write(temporary, selection)
    else:
        _write_folder(path.absolute(), chosen, selection)
    return len(rows)


def _write_folder(path: Path, chosen: Format, selection: Selection) -> None:
    """Write a folder beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name inside stays: the page of a folder says how it is opened.
    unfinished = path.parent / f".{path.name}.{os.getpid()}"
    unfinished.mkdir()
    try:
        inside = unfinished / path.name
        inside.mkdir()
        chosen.write(inside, selection)
        write_card(inside, path.name, selection, f"as {chosen.words}")
        os.rename(inside, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "pipeline.export", config=False)
    command_line.add_argument("results", type=results_folder, metavar="RESULTS", help="the results folder")
    command_line.add_argument("file", type=Path, metavar="FILE", help="the file or folder to write")
    command_line.add_argument("--format", metavar="NAME", help=f"{', '.join(FORMATS)} (default: by the ending of FILE)")
    command_line.add_argument(
        "--backbone", nargs="+", metavar="NAME", help="which features (default: of every backbone)"
    )
    command_line.add_argument("--split", choices=SPLITS, help="videos of this split alone")
    command_line.add_argument("--all", action="store_true", help="videos without features too, as NaN")
    arguments = command_line.parse_args()
    features = open_features(arguments.results)
    backbones = list(dict.fromkeys(arguments.backbone or features.backbones))
    count = export(features, arguments.file, backbones, arguments.split, arguments.all, arguments.format)
    print(f"wrote {count} videos to {arguments.file}")


if __name__ == "__main__":
    run(main)
