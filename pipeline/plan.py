"""Plan the extraction: how many shards there are and under which cache keys.

Reads the manifest's record, the weights' records and the plan that is there; creates or grows `features.zarr`; deletes
the done records of shards that are not as planned any more; writes `plan.json`, last.

Snakemake learns everything about 550,000 videos from `plan.json`, which it can read again for every job. The cache key
of a backbone is the sha256 of its weights' digest, its preprocessing, the segment spec and the store format: whatever
changes a feature changes the key, and nothing else does.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

from config.cli import UserError, parser, run
from config.files import read_json
from config.model import Config, read
from config.paths import Paths
from pipeline.backbones.check import check_widths
from pipeline.backbones.chosen import Chosen, chosen
from pipeline.passes import passes
from pipeline.readers import VideoRequest
from pipeline.records import Plan, PlannedBackbone, forget_done, read_plan, read_record, write_plan
from pipeline.store import FORMAT, create_store

log = logging.getLogger("plan")


def key_of(parts: dict[str, Any]) -> str:
    """Return the sha256 (hex) of a JSON object, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def make_plan(config: Config, videos: int, weights: dict[str, dict[str, Any]], planned: Plan | None = None) -> Plan:
    """Return the plan.

    `videos`: rows of the manifest; `weights`: {backbone: its weights record}; `planned`: the plan so far.
    """
    segments = config.segments.model_dump()
    backbones = {}
    for name in config.backbones:
        backbone = chosen(config, name).described(weights[name])
        kind = backbone.load_kind()
        backbone.check_segments(config.segments.seconds)
        _check_memory(config, backbone)
        preprocessing = kind.preprocessing(backbone.options)
        backbones[name] = PlannedBackbone(
            key=key_of(
                {
                    "format": FORMAT,
                    "backbone": name,
                    **({} if backbone.kind == name else {"kind": backbone.kind}),
                    "weights": weights[name]["sha256"],
                    "preprocessing": preprocessing,
                    "segments": segments,
                }
            ),
            dim=backbone.width(),
            modality=backbone.modality,
            weights=weights[name],
            random_weights=weights[name]["random"],
            preprocessing=preprocessing,
        )
    check_widths(config, lambda name: backbones[name].dim)
    return Plan(
        format=FORMAT,
        videos=videos,
        shard_videos=config.shard_videos,
        shards=-(-videos // config.shard_videos),
        segments=config.segments,
        segment_key=key_of({"format": FORMAT, "segments": segments}),
        backbones=backbones,
        passes=passes(config, planned),
    )


def _check_memory(config: Config, backbone: Chosen) -> None:
    """Raise UserError if no decoding process can hold the frames of one video twice: as an array, and as it is sent."""
    request = None if backbone.engine == "files" else backbone.load().request(backbone.options)
    if not isinstance(request, VideoRequest):
        return
    segments, (height, width) = config.segments, request.crop
    frames = segments.count * round(segments.seconds * request.fps)
    megabytes = 2 * frames * height * width * 3 / 2**20
    if megabytes > config.decoding.memory_mb:
        raise UserError(
            f"{backbone.key}.options.fps: {request.fps:g} frames a second make {frames:,} frames of {height}×{width} a "
            f"video, for which decoding needs {megabytes:,.0f} MB; decoding.memory_mb is {config.decoding.memory_mb}: "
            "set a lower `fps`, or fewer or shorter segments"
        )


def save_plan(paths: Paths, plan: Plan) -> None:
    """Bring the store to the plan's size and keys, then write `plan.json`."""
    create_store(paths, plan)
    write_plan(paths, plan)


def update(config: Config) -> Plan:
    """Plan what the manifest has now, from the records of manifest and weights; return the plan."""
    paths = config.paths
    manifest = read_json(paths.manifest_record)
    if manifest is None:
        raise UserError(f"{paths.manifest_record} does not exist; run `python -m data.manifest` first")
    weights = {}
    for name in config.backbones:
        record = read_json(paths.weights_record(name))
        if record is None:
            raise UserError(f"{paths.weights_record(name)} does not exist; run `python -m pipeline.weights` first")
        weights[name] = record
        if record["random"]:
            log.warning("%s has RANDOM weights: its features mean nothing beyond random projections", name)
    plan = make_plan(config, manifest["rows"], weights, read_plan(paths) if paths.plan.exists() else None)
    _forget_unplanned(paths, plan)
    save_plan(paths, plan)
    log.info("%d videos in %d shards of %d", plan.videos, plan.shards, plan.shard_videos)
    return plan


def _forget_unplanned(paths: Paths, plan: Plan) -> None:
    """Delete the done records of shards that have other rows or keys than planned; their features stay.

    Snakemake knows only in the folder where it ran what its jobs ran with. Started elsewhere, it would take the record
    of a shard that has gained videos for finished.
    """
    for part in plan.parts:
        for shard in range(plan.shards):
            record = read_record(paths.done(part, shard))
            if record is not None and (record.key, record.rows) != (plan.key(part), len(plan.rows(shard))):
                forget_done(paths, part, shard)


def main() -> None:
    """Run the command line."""
    update(read(parser(__doc__, "pipeline.plan").parse_args().config))


if __name__ == "__main__":
    run(main)
