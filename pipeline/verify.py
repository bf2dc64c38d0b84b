"""Check a finished cache: open every shard and compare it with its record.

    python -m pipeline.verify RESULTS            say what is damaged; exit status 1 if anything is
    python -m pipeline.verify RESULTS --repair   and delete the damaged shards' records, so that the next
                                                 `snakemake extract …` computes those shards again

Reads `plan.json`, `done/`, `ledger/` and `features.zarr`. Without `--repair` it writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from config.cli import UserError, run
from config.paths import Paths
from pipeline.plan import read_plan, shard_rows
from pipeline.records import forget_done, read_record
from pipeline.store import PROBE, objects_digest, part_arrays, read_array


def key_of_part(plan: dict[str, Any], part: str) -> str:
    """The cache key that the plan has for a part."""
    return plan["segment_key"] if part == PROBE else plan["backbones"][part]["key"]


def check_shard(paths: Paths, plan: dict[str, Any], part: str, shard: int) -> str | None:
    """What is wrong with one shard of one part, in words; None if nothing is."""
    try:
        record = read_record(paths.done(part, shard))
    except UserError as error:
        return str(error)
    key = key_of_part(plan, part)
    rows = shard_rows(plan, shard)
    if record is None:
        return "not finished"
    if record.key != key:
        return "made under another cache key than the plan's"
    if record.rows != len(rows):
        return f"has {record.rows} videos, the plan {len(rows)}"
    digest = objects_digest(paths, shard, part_arrays(part))
    if digest is None:
        return "its objects are missing in the store"
    if digest != record.digest:
        return "its bytes are not those that were written"
    here = slice(rows.start, rows.stop)
    if part == PROBE:
        valid = np.isfinite(np.asarray(read_array(paths, "duration")[here]))
        segments = np.isfinite(np.asarray(read_array(paths, "start")[here]))
    else:
        valid = np.asarray(read_array(paths, f"{part}_valid")[here])
        segments = np.isfinite(np.asarray(read_array(paths, part)[here])).all(axis=2)
    partial = int((segments.any(axis=1) & ~segments.all(axis=1)).sum())
    if not (valid == segments.any(axis=1)).all() or (int(valid.sum()), partial) != (record.valid, record.partial):
        return "its valid flags do not fit its features"
    return None


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(
        prog="python -m pipeline.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("results", type=Path, metavar="RESULTS", help="the results folder")
    p.add_argument("--repair", action="store_true", help="delete the records of damaged shards")
    arguments = p.parse_args()
    paths = Paths(arguments.results)
    plan = read_plan(paths)
    bad = 0
    for part in (PROBE, *plan["backbones"]):
        for shard in range(plan["shards"]):
            problem = check_shard(paths, plan, part, shard)
            if problem is None:
                continue
            bad += 1
            print(f"{part} shard {shard}: {problem}")
            if arguments.repair:
                forget_done(paths, part, shard)
                paths.ledger(part, shard, key_of_part(plan, part)).unlink(missing_ok=True)
    total = plan["shards"] * (1 + len(plan["backbones"]))
    print(f"{total - bad} of {total} shards are as their records say")
    if bad and arguments.repair:
        # Snakemake looks for a missing record only where something that is made of it is missing too.
        paths.features_record.unlink(missing_ok=True)
        print(f"deleted the records of {bad} shards; run `snakemake extract …` to compute them again")
    if bad:
        sys.exit(0 if arguments.repair else 1)


if __name__ == "__main__":
    run(main)
