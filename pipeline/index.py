"""Close the cache: collect every shard's record into one table of failures and one record of the whole.

Reads `done/<backbone>/*.json` and the manifest; writes `failures.csv` (a line for every video and backbone that has no
features of it: `filtered` by what the file lacks, or `failed`) and, last, `features.json` (keys, a digest of the whole
cache, and how many videos of each split have features on both sides of the projection heads).
"""

from __future__ import annotations

import csv
import hashlib
import logging
from pathlib import Path

import numpy as np

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import read
from config.paths import Paths
from data.manifest import read_manifest
from pipeline.plan import read_plan
from pipeline.readers import REASONS
from pipeline.records import read_record
from pipeline.store import read_array

log = logging.getLogger("index")


def main() -> None:
    """Command line."""
    config = read(parser(__doc__, "pipeline.index").parse_args().config)
    paths = Paths(Path(config.results))
    plan = read_plan(paths)
    manifest = read_manifest(paths.manifest).slice(0, plan["videos"])
    videos, split = manifest["path"].to_pylist(), np.array(manifest["split"].to_pylist())
    complete = np.ones(plan["videos"], bool)
    lines = []
    cache = {}
    for backbone, planned in plan["backbones"].items():
        digest, valid = hashlib.sha256(), 0
        for shard in range(plan["shards"]):
            record = read_record(paths.done(backbone, shard))
            if record is None or record.key != planned["key"]:
                raise UserError(f"shard {shard} of {backbone} is not finished; run `snakemake extract …`")
            digest.update(record.digest.encode())
            valid += record.valid
            lines += [(f.row, backbone, f, record.versions.get(f.decoder, "")) for f in record.failures]
        cache[backbone] = {
            "key": planned["key"],
            "valid": valid,
            "sha256": digest.hexdigest(),
            "random_weights": planned["random_weights"],
        }
        if backbone in (config.heads.audio, config.heads.video):
            complete &= np.asarray(read_array(paths, f"{backbone}_valid")[:])
        log.info("%s: %d of %d videos have features", backbone, valid, plan["videos"])
    with replacing(paths.failures) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "path", "backbone", "reason", "message", "attempts", "decoder", "version", "kind"])
        for row, backbone, failure, decoder in sorted(lines, key=lambda line: line[:2]):
            why = [failure.reason, failure.message, failure.attempts, failure.decoder, decoder]
            writer.writerow([failure.video_id, videos[row], backbone, *why, REASONS[failure.reason].kind])
    splits = {name: int(complete[split == name].sum()) for name in ("train", "validation", "test")}
    whole = {"videos": plan["videos"], "segments": plan["segments"], "complete": splits, "backbones": cache}
    write_json(paths.features_record, whole)


if __name__ == "__main__":
    run(main)
