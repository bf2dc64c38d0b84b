"""Make a static site of an atlas, and serve it on this machine. Runs in an environment of its own: `make explore`.

Reads RESULTS/report/atlas.parquet and its clips, and the application of the package embedding-atlas
(requirements-explore.txt). Writes RESULTS/report/explore/: the application without what it does not need here, the
atlas, and the clips. While it is served, clips that are not in it play from the videos' own files, whose paths it reads
from the manifest. The address is printed; Ctrl-C ends it. Nothing is loaded from elsewhere.

example: .venv-explore/bin/python -m eval.atlas.site results/demo --port 8000
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from config.cli import UserError, parser, results_folder, run
from config.files import read_json
from config.paths import Paths
from eval.atlas.layout import CHARTS, VERSION, metadata
from eval.atlas.serve import Server

log = logging.getLogger("explore")
NOT_NEEDED = ("*-mvp*", "wasm_mvp", "umap_wasm*", "ort-wasm*", "embedding.worker*")
"""Of the application: DuckDB for browsers of before 2022, and what computes embeddings and projections."""


def about(paths: Paths) -> dict[str, Any]:
    """Return what the atlas says of itself. UserError if there is none, or none of this version."""
    try:
        stored = pq.read_schema(paths.atlas).metadata or {}
        found: dict[str, Any] = json.loads(stored[b"atlas"])
    except FileNotFoundError:
        raise UserError(
            f"{paths.atlas} does not exist; run `snakemake atlas --cores 2 --configfile {paths.config} --config "
            f"results={paths.results}`"
        ) from None
    except (KeyError, ValueError, pa.ArrowException):
        raise UserError(f"{paths.atlas} is not an atlas; delete it and run `snakemake atlas …`") from None
    return found


def warn_if_older(paths: Paths, found: dict[str, Any]) -> None:
    """Warn if an experiment's embeddings are others than those that the atlas shows."""
    for space in found["spaces"]:
        record = read_json(paths.heads(space["name"]) / "embeddings.json") if "embeddings" in space else None
        if record is not None and record["digest"] != space["embeddings"]:
            log.warning(
                "the atlas is older than the embeddings of %s; `snakemake atlas …` makes it anew", space["name"]
            )


def application() -> Path:
    """Return the folder of embedding-atlas's application. UserError if it is not installed, or of another version."""
    spec = importlib.util.find_spec("embedding_atlas")
    if spec is None or spec.origin is None:
        raise UserError(
            "the package embedding-atlas is not installed here; run `make explore`, or "
            "`pip install --no-deps -r requirements-explore.txt` in an environment of its own"
        )
    from importlib.metadata import version

    if version("embedding-atlas") != VERSION:
        raise UserError(
            f"embedding-atlas {version('embedding-atlas')} is installed, {VERSION} is needed: later versions draw "
            "nothing without WebGPU. Run `pip install --no-deps -r requirements-explore.txt`"
        )
    return Path(spec.origin).parent / "static"


def export(paths: Paths) -> Path:
    """Write the site of an atlas and return its folder; a site of before is replaced at the end."""
    found, source = about(paths), application()
    site = paths.report / "explore"
    wip = site.with_name(f".explore.{os.getpid()}")
    shutil.rmtree(wip, ignore_errors=True)
    try:
        shutil.copytree(source, wip, ignore=shutil.ignore_patterns(*NOT_NEEDED))
        (wip / "data").mkdir()
        shutil.copyfile(paths.atlas, wip / "data" / "dataset.parquet")
        columns = pq.read_schema(paths.atlas).names
        written = metadata(columns, found, {name: distinct(paths.atlas, name) for name in CHARTS})
        (wip / "data" / "metadata.json").write_text(json.dumps(written), encoding="utf-8")
        media = paths.atlas_clips / "media"
        if media.is_dir():
            (wip / "media").mkdir()
            for clip in sorted(media.glob("*.mp4")):
                shutil.copyfile(clip, wip / "media" / clip.name)
        shutil.rmtree(site, ignore_errors=True)
        os.replace(wip, site)
    finally:
        shutil.rmtree(wip, ignore_errors=True)
    return site


def distinct(path: Path, column: str) -> int:
    """Return how many different values a column has, in lists too; null is none."""
    values = pq.read_table(path, columns=[column])[column]
    if pa.types.is_list(values.type):
        values = pc.list_flatten(values)
    count: int = pc.count_distinct(values).as_py()
    return count


def videos(paths: Paths) -> Mapping[int, str]:
    """Return {row: path of the file} of the videos that the atlas shows by their own files."""
    atlas = pq.read_table(paths.atlas, columns=["row", "video"])
    own = atlas.filter(pc.fill_null(pc.starts_with(atlas["video"], "video/"), False))["row"]
    if not len(own):
        return {}
    manifest = pq.read_table(paths.manifest, columns=["row", "path"]).take(own)
    return dict(zip(manifest["row"].to_pylist(), manifest["path"].to_pylist(), strict=True))


def main() -> None:
    """Run the command line."""
    command_line = parser(__doc__, "eval.atlas.site", config=False)
    command_line.add_argument(
        "results", type=results_folder, metavar="RESULTS", help="a results folder with report/atlas.parquet"
    )
    command_line.add_argument(
        "--port", type=int, default=0, metavar="N", help="port to serve on (default: any that is free)"
    )
    command_line.add_argument("--export-only", action="store_true", help="write the site and do not serve it")
    arguments = command_line.parse_args()
    paths = Paths(arguments.results)
    if not paths.config.exists():
        raise UserError(
            f"{arguments.results} is no results folder: it has no config.json. Name the folder of a finished run"
        )
    warn_if_older(paths, about(paths))
    site = export(paths)
    log.info("wrote %s", site)
    if arguments.export_only:
        return
    try:
        server = Server(site, videos(paths), arguments.port)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {arguments.port}: {error}; give another one, or none") from None
    print(f"The map: {server.address} (Ctrl-C ends it)", flush=True)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    run(main)
