"""Prepare a second look at some of the videos with other segments: one variant of the study of their length.

Reads the manifest and the weights; writes a results folder of its own, study/length/SECONDSs_COUNT/: the table of the
chosen videos, config.json, the manifest, links to the weights, an empty features.zarr and, last, plan.json. After that
the probe, the extraction and the index run there as anywhere, with `--config` of that folder; so does Snakemake
(`snakemake extract --configfile FOLDER/config.json`), if that should be done elsewhere.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.files import replacing, write_json
from config.model import Config, read
from config.paths import Paths
from config.variant import variant_config
from data import manifest
from data.segments import uniform
from pipeline import plan

log = logging.getLogger("variant")


def chosen(table: pa.Table, videos: int) -> pa.Table:
    """So many rows of a manifest, by a draw that depends on their ids alone, in the manifest's order."""
    draws = [uniform(f"study\0length\0{name}") for name in table["video_id"].to_pylist()]
    rows = sorted(range(len(draws)), key=draws.__getitem__)[:videos]
    return table.take(sorted(rows))


def prepare(config: Config, name: str) -> Path:
    """Write the folder of one variant; returns the path of its config.json. UserError for unknown names, no weights."""
    paths, other = Paths(Path(config.results)), variant_config(config, name)
    own = Paths(Path(other.results))
    table = chosen(manifest.read_manifest(paths.manifest), config.study.length.videos)
    with replacing(other.table) as temporary:
        pq.write_table(table.drop_columns(["row", "split"]), temporary)
    write_json(own.config, other.model_dump(mode="json"))
    for backbone in other.backbones:
        _link(own.weights(backbone), paths.weights(backbone))
        _link(own.weights_record(backbone), paths.weights_record(backbone))
    manifest.update(other)
    plan.update(other)
    return own.config


def _link(link: Path, target: Path) -> None:
    if not target.exists():
        raise UserError(f"{target} does not exist; run `python -m pipeline.weights` first")
    with replacing(link) as temporary:
        temporary.symlink_to(os.path.relpath(target, link.parent))


def main() -> None:
    """Command line."""
    p = parser(__doc__, "pipeline.variant")
    p.add_argument("--variant", required=True, metavar="NAME", help="which of study.length.variants, as `3s_12`")
    arguments = p.parse_args()
    log.info("prepared %s", prepare(read(arguments.config), arguments.variant))


if __name__ == "__main__":
    run(main)
