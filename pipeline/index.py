"""Close the cache: collect every shard's record into one table of failures and one record of the whole.

Reads `done/<backbone>/*.json` and the manifest; writes `failures.csv` (a line for every video and backbone that has no
features of it and is not retired: `filtered` by what the file lacks, or `failed`) and, last, `features.json` (keys, a
digest of the whole cache, and how many videos of each split have features on both sides of the projection heads).
"""

from __future__ import annotations

import csv
import hashlib
import logging

import numpy as np

from config.cli import UserError, parser, run
from config.files import replacing
from config.model import read
from data.manifest import active, read_manifest
from data.splits import SPLITS
from pipeline.readers import REASONS
from pipeline.records import CachedBackbone, CacheRecord, read_plan, read_record, write_cache_record
from pipeline.store import read_array

log = logging.getLogger("index")


def main() -> None:
    """Run the command line."""
    config = read(parser(__doc__, "pipeline.index").parse_args().config)
    paths = config.paths
    plan = read_plan(paths)
    manifest = read_manifest(paths.manifest).slice(0, plan.videos)
    videos, split = manifest["path"].to_pylist(), np.array(manifest["split"].to_pylist(), object)
    listed = active(manifest)
    complete = np.ones(plan.videos, bool)
    lines = []
    cache = {}
    for backbone, planned in plan.backbones.items():
        digest, valid = hashlib.sha256(), 0
        for shard in range(plan.shards):
            record = read_record(paths.done(backbone, shard))
            if record is None or record.key != planned.key:
                raise UserError(f"shard {shard} of {backbone} is not finished; run `snakemake extract …`")
            digest.update(record.digest.encode())
            valid += record.valid
            failed = [failure for failure in record.failures if listed[failure.row]]
            lines += [(failure.row, backbone, failure, record.versions.get(failure.decoder, "")) for failure in failed]
        cache[backbone] = CachedBackbone(planned.key, valid, digest.hexdigest(), planned.random_weights)
        if backbone in config.used_backbones:
            complete &= np.asarray(read_array(paths, f"{backbone}_valid")[:])
        log.info("%s: %d of %d videos have features", backbone, valid, plan.videos)
    with replacing(paths.failures) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "path", "backbone", "reason", "message", "attempts", "decoder", "version", "kind"])
        for row, backbone, failure, decoder in sorted(lines, key=lambda line: line[:2]):
            why = [failure.reason, failure.message, failure.attempts, failure.decoder, decoder]
            writer.writerow([failure.video_id, videos[row], backbone, *why, REASONS[failure.reason].kind])
    splits: dict[str, int] = {name: int(complete[split == name].sum()) for name in SPLITS}
    write_cache_record(paths, CacheRecord(plan.videos, plan.segments, splits, cache))


if __name__ == "__main__":
    run(main)
