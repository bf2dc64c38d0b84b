"""A report on a simulated cache, and what its tests share: a copy of the run to change, and the report's tables."""

import csv
import shutil
from pathlib import Path

import pyarrow as pa

from config.files import write_json
from config.model import Config, load, read
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.compare import compare
from eval.diagnose.__main__ import diagnose
from eval.neighbours import neighbours
from eval.probe.__main__ import probe
from eval.report.__main__ import report
from eval.retrieval import retrieval
from heads.embed import embed
from heads.train import train
from tests.support.media import Audio, Video, regular, write
from tests.support.page import EVIL
from tests.support.simulate import index_cache, simulate


def relabel(config: Config, film: str) -> None:
    """Give every video hostile labels, and every second one a file that exists."""
    paths = config.paths
    manifest = read_manifest(paths.manifest)
    count = manifest.num_rows
    columns = {name: pa.array([f"{EVIL}{i % 7}" for i in range(count)]) for name in ("artist", "title", "genre")}
    columns["video_id"] = pa.array([f"{EVIL}{i}" for i in range(count)])
    columns["tags"] = pa.array([[f"{EVIL}{i % 5}", f"{EVIL}{i % 3}"] for i in range(count)])
    columns["path"] = pa.array([film if i % 2 else path for i, path in enumerate(manifest["path"].to_pylist())])
    for name, values in columns.items():
        manifest = manifest.set_column(manifest.column_names.index(name), name, values)
    write_manifest(paths, manifest)


def make_report(results: Path) -> Path:
    """Train, measure and report on a simulated cache with hostile labels; return the report's folder."""
    settings = {"seeds": [0, 1], "experiments": {"baseline": {"max_epochs": 2}, "recommended": {"max_epochs": 2}}}
    film = write(results / "film.mp4", Video(regular(26, 5), width=320, height=180), Audio(26.0))
    probes = {"hidden": [8], "max_epochs": 2}
    config = simulate(results, videos=200, heads=settings, probes=probes, eval={"bootstrap": 100})
    train(config, *config.heads.experiments)
    for name in config.heads.experiments:
        embed(config, name)
    relabel(config, film)
    for name in config.heads.experiments:
        retrieval(config, name)
    compare(config)
    for task in config.labels.tasks:
        write_labels(config, task)
    for space in ("features", *config.heads.experiments):
        neighbours(config, space)
        for task in config.labels.tasks:
            probe(config, task, space)
    for name in config.heads.experiments:
        diagnose(config, name)
    index_cache(config)
    return report(config).parent


def copied(report_folder: Path, results: Path, **evaluation: object) -> Config:
    """Copy the run that the report is of to another folder, with other keys of `eval`."""
    shutil.copytree(report_folder.parent, results, ignore=shutil.ignore_patterns("media", "film.mp4"))
    plain = read(results / "config.json").model_dump(mode="json") | {"results": str(results)}
    plain["eval"] = {"bootstrap": 100} | evaluation
    write_json(results / "config.json", plain)
    return load(plain)


def table(report_folder: Path, name: str) -> list[dict[str, str]]:
    """Read a table of the report."""
    with open(report_folder / "tables" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
