"""What the report shows of near-duplicates: those that were found in this manifest and at this threshold, no others."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest

from config.files import write_json
from config.model import Config
from data.manifest import read_manifest, write_manifest
from eval.duplicates import WAYS, evaluate
from eval.report.__main__ import report
from eval.report.duplicates import Duplicates, duplicates
from pipeline.duplicates.report import COLUMNS, digests
from pipeline.features import open_features
from tests.support.browser import CHROMIUM, assert_quiet
from tests.support.media import Audio, Video, regular, write
from tests.support.page import Tags
from tests.support.report import copied, table

pytestmark = pytest.mark.workflow


def write_duplicates(config: Config, groups: list[list[int]], **changes: object) -> None:
    """Write what `pipeline.duplicates` writes where it finds these groups of rows."""
    paths = config.paths
    lines = read_manifest(paths.manifest).to_pylist()
    backbones = {"audio": "musicnn", "video": "r2plus1d"}
    paths.duplicates_table.parent.mkdir(exist_ok=True)
    with open(paths.duplicates_table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, rows in enumerate(groups):
            for row in rows:
                about = [lines[row][name] for name in ("video_id", "row", "split", "artist", "path")]
                writer.writerow((number, *about, 1.0 if row == rows[0] else 0.7))
    record = {"on": "both", "threshold": 0.65, "backbones": backbones, **digests(paths, backbones.values())}
    record |= {"keys": {"musicnn": "a" * 64, "r2plus1d": "b" * 64}, "random_weights": dict.fromkeys(backbones, False)}
    record |= {"compared": len(lines), "groups": len(groups), "videos": sum(map(len, groups))}
    record |= {"largest": max(map(len, groups), default=0)}
    record["across_splits"] = {"groups": 1, "videos": {"test_with_train": 3, "validation_with_train": 0}}
    record["examples"] = [{"group": i, "videos": len(g), "ids": []} for i, g in enumerate(groups)]
    write_json(paths.duplicates, record | changes)


def section(page: Path) -> str:
    """Return what the report says of near-duplicates, in one line."""
    text = page.read_text().split('id="duplicates"', 1)[1].split('id="coverage"', 1)[0]
    return " ".join(text.split())


def test_near_duplicates_are_shown_where_they_were_looked_for(report_folder: Path, tmp_path: Path) -> None:
    assert "Not looked for. <code>snakemake duplicates …</code>" in section(report_folder / "index.html")
    assert table(report_folder, "duplicates") == []
    config = copied(report_folder, tmp_path / "results")
    split = read_manifest(config.paths.manifest)["split"].to_pylist()
    test = [row for row, name in enumerate(split) if name == "test"]
    train_rows = [row for row, name in enumerate(split) if name == "train"]
    # The middle segment of one of them is in a film that exists.
    middle = open_features(config.paths).start()[:, 1]
    train_rows.sort(key=lambda row: middle[row])
    film = write(tmp_path / "long.mp4", Video(regular(60, 2), width=160, height=90), Audio(60.0))
    manifest = read_manifest(config.paths.manifest)
    files = [film if row == train_rows[0] else path for row, path in enumerate(manifest["path"].to_pylist())]
    write_manifest(config.paths, manifest.set_column(manifest.column_names.index("path"), "path", pa.array(files)))
    write_duplicates(config, [[*train_rows[:5], test[0]], test[1:4], train_rows[5:7]])
    page = report(config)
    text = section(page)
    assert "Of 200 videos compared by audio and video, 11 have a near-duplicate (similarity 0.65 or more)" in text
    assert "3 groups of duplicates, the largest of 6. 1 of the groups stands in several splits: 3 test videos" in text
    figures = text.split("<figure>")[1:]
    assert len(figures) == 4 + 3 + 2 and "train, one of 6" in figures[0] and "test, 0.70" in figures[5]
    assert any("data:image/jpeg" in figure for figure in figures) and any("no frame" in figure for figure in figures)
    assert "was not measured. <code>snakemake evaluate_duplicates …</code> does" in text and "<table>" not in text
    assert not any("onerror" in attributes for _, attributes in Tags(text).tags)

    written = evaluate(config, "baseline")
    text = section(report(config))
    assert f"among {written['gallery']} test videos, 3 of which have a duplicate in the test split" in text
    assert "Not measured: recommended. <code>snakemake evaluate_duplicates" in text
    rows = table(page.parent, "duplicates")
    assert [row["counted"] for row in rows] == [*WAYS] * 2 and {row["experiment"] for row in rows} == {"baseline"}
    assert float(rows[1]["median"]) == written["results"][0]["with_duplicates"]["median"]["value"]
    evaluate(config, "recommended")
    assert "Not measured" not in section(report(config))
    if CHROMIUM is not None:
        assert_quiet(page.parent, page.name)


def test_near_duplicates_of_something_else_are_not_shown(report_folder: Path, tmp_path: Path) -> None:
    config = copied(report_folder, tmp_path / "results")
    test = [row for row, name in enumerate(read_manifest(config.paths.manifest)["split"].to_pylist()) if name == "test"]
    retrieval_of = {name: config.paths.eval(name) / "retrieval.json" for name in config.heads.experiments}
    embeddings = {name: json.loads(path.read_text())["embeddings"] for name, path in retrieval_of.items()}

    def found() -> Duplicates:
        return duplicates(config, open_features(config.paths), embeddings)

    assert found() == Duplicates()
    write_duplicates(config, [test[:2]], manifest="0" * 64)
    assert found() == Duplicates(doubt="was made of another manifest")
    write_duplicates(config, [test[:2]], threshold=0.9)
    assert found() == Duplicates(doubt="was made with threshold: 0.9, but duplicates.threshold now: 0.65")
    assert "Not shown: <code>duplicates/duplicates.json</code> was made with threshold: 0.9" in section(report(config))
    write_duplicates(config, [test[:2]], largest=21)
    assert found().doubtful
    write_duplicates(config, [test[:2]], largest=20)
    assert found().record and not found().doubtful
    write_duplicates(config, [])
    assert found().record and found().doubt is None and found().groups == []
    # What was measured with other groups, or on embeddings that were replaced since.
    write_duplicates(config, [test[:2]])
    evaluate(config, "baseline")
    assert list(found().measured) == ["baseline"] and found().in_test == 2
    embeddings["baseline"] = ["0", "1"]
    assert found().measured == {} and found().in_test == 0
    write_duplicates(config, [test[:3]])
    assert len(found().groups[0]) == 3 and found().measured == {}
