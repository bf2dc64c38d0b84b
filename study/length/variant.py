"""Prepare one variant of the study of length: some of the videos, to be extracted with other segments.

Reads the manifest and the weights. Writes a results folder of its own, study/length/SECONDSs_COUNT/ (with _START if
the variant says where segments start): the table of the chosen videos, config.json, the manifest, links to the weights,
an empty features.zarr and, last, plan.json. The file check, the extraction and the index then run with `--config` of
that folder, and so does Snakemake (`snakemake extract --configfile FOLDER/config.json`).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from config.cli import UserError, parser, run
from config.files import replacing
from config.model import Config, read
from data import manifest
from data.segments import uniform
from pipeline import plan
from study.length.config import variant_config, write_config

log = logging.getLogger("variant")


def chosen(table: pa.Table, videos: int) -> pa.Table:
    """Draw `videos` rows of a manifest, which depend on their ids alone; they keep the manifest's order."""
    draws = [uniform(f"study\0length\0{name}") for name in table["video_id"].to_pylist()]
    rows = sorted(range(len(draws)), key=draws.__getitem__)[:videos]
    return table.take(sorted(rows))


def prepare(config: Config, name: str) -> Path:
    """Write the folder of one variant; return the path of its config.json. UserError for unknown names, no weights."""
    paths, variant = config.paths, variant_config(config, name)
    own = variant.paths
    videos = manifest.read_manifest(paths.manifest)
    table = chosen(videos.filter(pa.array(manifest.active(videos))), config.study.length.videos)
    with replacing(variant.table) as temporary:
        pq.write_table(table.drop_columns(["row", "split", "status"]), temporary)
    write_config(variant)
    for backbone in variant.backbones:
        _link(own.weights(backbone), paths.weights(backbone))
        _link(own.weights_record(backbone), paths.weights_record(backbone))
    manifest.update(variant, dict(zip(table["video_id"].to_pylist(), table["split"].to_pylist(), strict=True)))
    plan.update(variant)
    return own.config


def _link(link: Path, target: Path) -> None:
    if not target.exists():
        raise UserError(f"{target} does not exist; run `python -m pipeline.weights` first")
    with replacing(link) as temporary:
        # Both resolved: `..` through a folder that is itself a link would lead elsewhere.
        temporary.symlink_to(os.path.relpath(target.parent.resolve(), link.parent.resolve()) + f"/{target.name}")


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "study.length.variant")
    command_line.add_argument(
        "--variant", required=True, metavar="NAME", help="which of study.length.variants, as `3s_12`"
    )
    arguments = command_line.parse_args()
    log.info("prepared %s", prepare(read(arguments.config), arguments.variant))


if __name__ == "__main__":
    run(main)
