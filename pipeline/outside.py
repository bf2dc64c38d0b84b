"""Features of files outside of the collection, computed as those of the cache: the same readers, segments, networks.

Reads the plan, the weights with their records, and the files. Writes a results folder of its own into the system's
folder for temporary files and deletes it at the end: a manifest with the files, links to the weights, and a store of
one shard. `pipeline.probe` and `pipeline.extract` fill it, a process a pass, so that essentia and PyTorch share none
and a broken file harms none but the decoder's. What would differ from the cache is refused before any file is opened.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file

from config.cli import UserError
from config.files import read_json, write_json
from config.model import Config, load
from data.columns import FILES
from data.manifest import ACTIVE, SCHEMA, write_manifest
from pipeline.backbones.chosen import chosen
from pipeline.plan import make_plan, save_plan
from pipeline.records import Failure, Plan, read_plan, read_record
from pipeline.shards import Shards
from pipeline.store import DURATION, START
from pipeline.weights import digest

log = logging.getLogger("files")
ROOT = Path(__file__).resolve().parents[1]
SECONDS = 10.0
"""Between two lines that show how far the processes are."""


@dataclass(frozen=True)
class OutsideFile:
    """A file to be read: its absolute `path` or another place (data/places.py), and the `video_id` that its segments
    are drawn by. The others are as in the manifest.
    """

    path: str
    video_id: str
    audio_path: str | None = None
    audio_offset: float | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class FileFeatures:
    """What was read of a file.

    `duration` in seconds and `starts` of the segments, float32 [segments] in seconds; NaN if it could not be opened.
    By backbone: `features` float16 [segments, dim] or, in `failures`, why there are none.
    """

    duration: float
    starts: np.ndarray
    features: dict[str, np.ndarray]
    failures: dict[str, Failure]


def read_files(config: Config, backbones: Sequence[str], files: Sequence[OutsideFile]) -> list[FileFeatures]:
    """Return the features of every file by these backbones of the collection.

    Raises UserError if they would not be of the cache's keys, or if a process stops with an error of the user's.
    """
    # Features that exist already (`precomputed`) are of known videos only.
    networks = [name for name in backbones if chosen(config, name).engine != "files"]
    elsewhere = [name for name in backbones if name not in networks]
    if not networks:
        return [_unread(config.segments.count, elsewhere, row, file) for row, file in enumerate(files)]
    check_weights(config, networks)
    log.info("files to read: %d", len(files))
    with tempfile.TemporaryDirectory(prefix="outside-") as folder:
        own = own_config(config, networks, len(files), Path(folder))
        plan = make_plan(own, len(files), {name: _record(config, name) for name in networks})
        check_plan(config, plan)
        _prepare(config, own, plan, files)
        _run(own, [["pipeline.probe"]])
        _run(own, [["pipeline.extract", *(f"--backbone={name}" for name in together)] for together in plan.passes])
        return _collect(own, plan, elsewhere, files)


def own_config(config: Config, backbones: Sequence[str], files: int, folder: Path) -> Config:
    """Return the configuration of the results folder for these files: one shard, however many of them fail."""
    whole = config.model_dump(mode="json")
    changes = {
        "results": str(folder),
        "videos": str(folder / "videos.csv"),
        "render": None,
        "shard_videos": files,
        "shards_a_job": 1,
        "decoding": whole["decoding"] | {"failure_ratio": 1.0},
        "backbones": {name: whole["backbones"][name] for name in backbones},
        "heads": {"audio": backbones[0], "video": backbones[0], "experiments": {}},
    }
    return load({name: whole[name] for name in ("segments", "splits")} | changes)


def check_weights(config: Config, backbones: Sequence[str]) -> None:
    """Raise UserError if the weights of a backbone are missing, or not those that their record says."""
    for name in backbones:
        path, record = config.paths.weights(name), _record(config, name)
        try:
            right = digest(load_file(path)) == record["sha256"]
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({error}); run `python -m pipeline.weights`") from None
        if not right:
            raise UserError(
                f"{path} holds other weights than {config.paths.weights_record(name)} says: what they compute would "
                "not be comparable with the cache. Run `snakemake extract …`"
            )


def _record(config: Config, name: str) -> dict[str, Any]:
    path = config.paths.weights_record(name)
    record: dict[str, Any] | None = read_json(path)
    if record is None:
        raise UserError(f"{path} does not exist; run `snakemake extract …`")
    return record


def check_plan(config: Config, plan: Plan) -> None:
    """Raise UserError that names what differs if features by `plan` would have other keys than those of the cache."""
    paths = config.paths
    cached = read_plan(paths)
    for name, backbone in plan.backbones.items():
        if name not in cached.backbones:
            raise UserError(f"{paths.plan} has no backbone '{name}'; run `snakemake extract …`")
        before = cached.backbones[name]
        if backbone.key == before.key:
            continue
        differences = []
        if plan.segments != cached.segments:
            differences.append(f"segments ({_changes(plan.segments.model_dump(), cached.segments.model_dump())})")
        if backbone.weights["sha256"] != before.weights.get("sha256"):
            old = f"{before.weights.get('source')}, {str(before.weights.get('sha256'))[:8]}"
            differences.append(
                f"weights ({backbone.weights['source']}, {backbone.weights['sha256'][:8]}; the cache: {old})"
            )
        if backbone.preprocessing != before.preprocessing:
            differences.append(f"preprocessing ({_changes(backbone.preprocessing, before.preprocessing)})")
        raise UserError(
            f"{paths.config}: features of {name} would have the key {backbone.key[:8]}, the cache has "
            f"{before.key[:8]}, because these differ: {'; '.join(differences) or 'the kind or the store format'}. "
            "Set them back, or run `snakemake extract …`, which computes the cache again."
        )


def _changes(now: dict[str, Any], before: dict[str, Any]) -> str:
    """Say which values differ, as `seconds: 5.0; the cache: 3.0`."""
    names = [name for name in dict.fromkeys([*now, *before]) if now.get(name) != before.get(name)]
    return ", ".join(f"{name}: {now.get(name)}; the cache: {before.get(name)}" for name in names)


def _prepare(config: Config, own: Config, plan: Plan, files: Sequence[OutsideFile]) -> None:
    paths = own.paths
    write_json(paths.config, own.model_dump(mode="json"))
    columns: dict[str, Any] = {name: pa.nulls(len(files)) for name in SCHEMA.names}
    columns |= {"row": range(len(files)), "status": [ACTIVE] * len(files)}
    for name in ("video_id", "path", *FILES):
        columns[name] = [getattr(file, name) for file in files]
    table = pa.table({name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}, SCHEMA)
    write_manifest(paths, table)
    for name in plan.backbones:
        paths.weights(name).parent.mkdir(parents=True, exist_ok=True)
        paths.weights(name).symlink_to(config.paths.weights(name).resolve())
    save_plan(paths, plan)


def _run(own: Config, modules: list[list[str]]) -> None:
    """Run modules side by side on the only shard. Raises UserError with the message of one that stops with an error."""
    folder, environment = own.paths.results, dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in (str(ROOT), os.environ.get("PYTHONPATH")) if entry)
    started: list[tuple[subprocess.Popen[bytes], str, Path]] = []
    try:
        for number, (module, *arguments) in enumerate(modules):
            command = [sys.executable, "-m", module, "--config", str(own.paths.config), "--shard", "0", *arguments]
            output = folder / f"{module}.{number}.log"
            with open(output, "wb") as file:
                process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            started.append((process, module, output))
        for process, module, output in started:
            if _ended(process, output):
                printed = _text(output)
                _, mark, message = f"\n{printed}".rpartition("\nerror: ")
                if process.returncode == 2 and mark:
                    raise UserError(message.strip())
                raise RuntimeError(f"{module} ended with {process.returncode}:\n{printed[-3000:]}")
    finally:
        for process, _, _ in started:
            process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes], output: Path) -> int:
    """Wait for a process and return its exit status; every SECONDS, log the last line of its output."""
    while True:
        try:
            return process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            if lines := _text(output).splitlines():
                log.info("%s", lines[-1].partition(" ")[2])  # without the time


def _text(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")


def _collect(own: Config, plan: Plan, elsewhere: Sequence[str], files: Sequence[OutsideFile]) -> list[FileFeatures]:
    paths = own.paths
    starts, durations = (Shards.open(paths.features / name).read() for name in (START, DURATION))
    features = {name: Shards.open(paths.features / name).read() for name in plan.backbones}
    records = {name: read_record(paths.done(name, 0)) for name in plan.backbones}
    failures = {name: {fail.row: fail for fail in record.failures} for name, record in records.items() if record}
    results = []
    for row, file in enumerate(files):
        failed = {name: failures[name][row] for name in plan.backbones if row in failures[name]}
        good = {name: features[name][row] for name in plan.backbones if name not in failed}
        unread = _unread(own.segments.count, elsewhere, row, file)
        results.append(FileFeatures(float(durations[row]), starts[row], good, unread.failures | failed))
    return results


def _unread(segments: int, elsewhere: Sequence[str], row: int, file: OutsideFile) -> FileFeatures:
    """Return a file of which nothing is read, with the failures of the backbones that were computed `elsewhere`."""
    message = "the features of this backbone were computed elsewhere, and only for the videos of the collection"
    failures = {name: Failure(row, file.video_id, "no_features", message) for name in elsewhere}
    return FileFeatures(float("nan"), np.full(segments, np.nan, np.float32), {}, failures)
