"""The cache `features.zarr`: its layout and whole-shard writes. `pipeline.features` opens a finished one.

One Zarr v3 group. For every backbone an array `<backbone>` [videos, segments, dim] float16 and `<backbone>_valid`
[videos] bool; for the probe `start` [videos, segments] float32 seconds and `duration` [videos] float32 seconds.
NaN stands where nothing could be read: in whole videos or, with `decoding.partial`, in single segments. A shard is
written as one finished object that is renamed into place: concurrent or interrupted writers of a Zarr
shard lose data silently (zarr-python#3682), a rename cannot.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from config.cli import UserError
from config.files import read_json
from config.paths import Paths
from pipeline.records import PROBE, Plan, Record, forget_done, read_record, write_record
from pipeline.shards import Shards

FORMAT = 1
START, DURATION = "start", "duration"
UNKNOWN = "unknown"
"""Folder of `superseded/` for arrays without a key, which a plan that was killed has left: nothing is in them."""
CHUNK_BYTES = 80_000
"""Bytes of features under one checksum, at most: what reading one random row costs (docs/performance.md, "Store")."""


def create_store(paths: Paths, plan: Plan) -> None:
    """Create the cache or bring it to the plan's size: arrays grow, arrays under another key step aside.

    An array whose key is not the planned one is moved to `superseded/<key>/`, from where it comes back by itself when
    its key does. Raises UserError if the shard size differs from the cache's.
    """
    group = zarr.open_group(paths.features, mode="a", zarr_format=3)
    shard_videos: Any = group.attrs.get("shard_videos", plan.shard_videos)
    if shard_videos != plan.shard_videos:
        raise UserError(
            f"shard_videos is {plan.shard_videos}, but {paths.features} was made with {shard_videos}. "
            f"Set it back to {shard_videos}, or choose another results folder."
        )
    group.attrs.update({"format": FORMAT, "shard_videos": shard_videos})
    segments = plan.segments
    arrays: dict[str, tuple[tuple[int, ...], type, dict[str, Any]]] = {}
    for name, planned in plan.backbones.items():
        attributes: dict[str, Any] = {
            "weights": planned.weights,
            "random_weights": planned.random_weights,
            "preprocessing": planned.preprocessing,
            "segments": segments.model_dump(),
            "key": planned.key,
        }
        arrays[name] = ((plan.videos, segments.count, planned.dim), np.float16, attributes)
        arrays[f"{name}_valid"] = ((plan.videos,), bool, attributes)
    attributes = {"unit": "s", "key": plan.segment_key}
    arrays[START] = ((plan.videos, segments.count), np.float32, attributes)
    arrays[DURATION] = ((plan.videos,), np.float32, attributes)
    for name, (_, _, attributes) in arrays.items():
        _swap(paths, name, attributes["key"])
    for name, (shape, dtype, attributes) in arrays.items():
        if name not in group:
            _create(group.store, name, shape, dtype, shard_videos, attributes)
        array = zarr.open_array(group.store, path=name, mode="r+")
        if array.shape[0] < plan.videos:
            array.resize(shape)
        array.attrs.update(attributes)


def _swap(paths: Paths, name: str, key: str) -> None:
    """Move an array with another key out of the store, and one with the wanted key back in."""
    here = paths.features / name
    attributes = (read_json(here / "zarr.json") or {}).get("attributes", {})
    if here.exists() and attributes.get("key") != key:
        aside = paths.superseded / str(attributes.get("key", UNKNOWN))[:16] / name
        aside.parent.mkdir(parents=True, exist_ok=True)
        if aside.parent.name == UNKNOWN and aside.exists():
            shutil.rmtree(aside)  # a killed plan made it and nobody wrote to it; it would be in the way of the next one
        os.replace(here, aside)
    back = paths.superseded / key[:16] / name
    if back.exists() and not here.exists():
        os.replace(back, here)


def _create(
    store: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    shard_videos: int,
    attributes: dict[str, Any] | None = None,
) -> zarr.Array[Any]:
    """Create one array, its attributes at once. Features are sharded with small inner chunks, the slim arrays have one
    chunk a shard."""
    whole = (shard_videos, *shape[1:])
    features = len(shape) == 3
    most = max(CHUNK_BYTES // (math.prod(shape[1:]) * np.dtype(dtype).itemsize), 1)
    chunk = max(count for count in range(1, min(shard_videos, most) + 1) if shard_videos % count == 0)
    return zarr.create_array(
        store,
        name=name,
        shape=shape,
        dtype=dtype,
        shards=whole if features else None,
        chunks=(chunk, *shape[1:]) if features else whole,
        # Embeddings hardly compress; a checksum in every chunk finds a flipped bit.
        compressors=[Crc32cCodec()],
        filters=None,
        attributes=attributes,
        dimension_names=("video", "segment", f"{name}_feature")[: len(shape)],
        fill_value=False if np.dtype(dtype) == bool else np.nan,
        # An all-NaN chunk is written too: a missing object then always means that a shard was never written.
        config={"write_empty_chunks": True},
        overwrite=False,
    )


def _encode(block: np.ndarray, shard_videos: int) -> bytes:
    """Return one shard's object as Zarr writes it for an array of exactly one shard; missing rows are fill."""
    objects: dict[str, Any] = {}
    array = _create(MemoryStore(objects), "one", (shard_videos, *block.shape[1:]), block.dtype, shard_videos)
    whole = np.full(array.shape, array.fill_value, block.dtype)
    whole[: len(block)] = block
    array[:] = whole
    (data,) = [value for key, value in objects.items() if key.startswith("one/c/")]
    return data.to_bytes()


def write_objects(paths: Paths, shard: int, blocks: dict[str, np.ndarray]) -> str:
    """Write one whole shard of each named array, atomically one by one; return the sha256 over their bytes.

    blocks: {array name: [rows of the shard, …]} in the array's dtype. The last shard may have fewer rows.
    """
    digest = hashlib.sha256()
    for name, block in blocks.items():
        array = Shards.open(paths.features / name)
        if block.dtype != array.dtype or block.shape[1:] != array.shape[1:]:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {block.dtype} {block.shape}")
        data = _encode(block, array.shard_rows)
        digest.update(data)
        target = array.path(shard)
        target.parent.mkdir(parents=True, exist_ok=True)
        # The temporary file lies outside the store: a stray file inside a group makes Zarr readers warn.
        temporary = paths.results / "work" / f"{name}.{shard}.{os.getpid()}.wip"
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
    return digest.hexdigest()


def objects_digest(paths: Paths, shard: int, names: list[str]) -> str | None:
    """Return the sha256 over the bytes of a shard's objects on disk; None if one is missing."""
    digest = hashlib.sha256()
    for name in names:
        try:
            digest.update(Shards.open(paths.features / name).path(shard).read_bytes())
        except FileNotFoundError:
            return None
    return digest.hexdigest()


def part_arrays(part: str) -> list[str]:
    """Return the names of the arrays that one part (a backbone, or the probe) writes."""
    return [START, DURATION] if part == PROBE else [part, f"{part}_valid"]


def finish_shard(paths: Paths, part: str, shard: int, blocks: list[np.ndarray], record: Record) -> Record:
    """Put a finished shard in place and, last, its records. `record.digest` is filled in here.

    Deletes `features.json` first: the next `snakemake extract …` makes it again, and what is missing if this is killed.

    blocks: the part's arrays in the order of `part_arrays`.
    """
    # A rewritten shard has records of its old bytes, which a kill between two objects would leave without their shard.
    forget_done(paths, part, shard)
    digest = write_objects(paths, shard, dict(zip(part_arrays(part), blocks, strict=True)))
    record = replace(record, digest=digest)
    write_record(paths, part, shard, record)
    for name in part_arrays(part):  # what jobs that were killed while they wrote have left
        for stray in (paths.results / "work").glob(f"{name}.{shard}.*.wip"):
            stray.unlink(missing_ok=True)
    return record


def stored_shard(paths: Paths, part: str, shard: int, key: str) -> Record | None:
    """Return the ledger of a shard if its objects are in the store, undamaged and under this key; None otherwise."""
    record = read_record(paths.ledger(part, shard, key))
    if record is None or record.key != key or record.digest != objects_digest(paths, shard, part_arrays(part)):
        return None
    return record


def read_array(paths: Paths, name: str) -> zarr.Array[Any]:
    """Open one array of the cache for reading. UserError if it is not there."""
    try:
        array = zarr.open_array(paths.features / name, mode="r", zarr_format=3)
    except FileNotFoundError:
        raise UserError(f"{paths.features} has no array '{name}'; run `snakemake extract …`") from None
    return array
