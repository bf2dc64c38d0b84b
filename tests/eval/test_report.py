"""The report on a simulated cache: text from data is escaped, missing videos and heads are reported."""

import csv
import json
import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from config.files import write_json
from config.model import Config, load, read
from data.labels import write_labels
from data.manifest import read_manifest, write_manifest
from eval.compare import compare
from eval.diagnose.__main__ import diagnose
from eval.duplicates import WAYS, evaluate
from eval.neighbours import neighbours
from eval.probe.__main__ import probe
from eval.report import media
from eval.report.__main__ import report
from eval.report.clip import HEIGHT, WIDTH, clip
from eval.report.draw import Drawn, draw
from eval.report.duplicates import Duplicates, duplicates
from eval.report.gather import Run
from eval.report.page import code, number, signed
from eval.retrieval import retrieval
from heads.embed import embed
from heads.metrics import METRICS, Metric
from heads.train import train
from pipeline.duplicates.report import COLUMNS, digests
from pipeline.features import open_features
from tests.support.browser import CHROMIUM, assert_quiet
from tests.support.media import Audio, Video, regular, write
from tests.support.page import EVIL, Tags
from tests.support.simulate import index_cache, simulate

pytestmark = pytest.mark.workflow


def relabel(config: Config, film: str) -> None:
    """Give every video hostile labels, and every second one a file that exists."""
    paths = config.paths
    table = read_manifest(paths.manifest)
    count = table.num_rows
    columns = {name: pa.array([f"{EVIL}{i % 7}" for i in range(count)]) for name in ("artist", "title", "genre")}
    columns["video_id"] = pa.array([f"{EVIL}{i}" for i in range(count)])
    columns["tags"] = pa.array([[f"{EVIL}{i % 5}", f"{EVIL}{i % 3}"] for i in range(count)])
    columns["path"] = pa.array([film if i % 2 else path for i, path in enumerate(table["path"].to_pylist())])
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    write_manifest(paths, table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's folder."""
    settings = {"seeds": [0, 1], "experiments": {"baseline": {"max_epochs": 2}, "recommended": {"max_epochs": 2}}}
    results = tmp_path_factory.mktemp("report")
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


@pytest.fixture(scope="module")
def pages(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.html"))}


def test_the_pages_are_there(pages: dict[str, str]) -> None:
    assert set(pages) == {"index.html", *(f"gallery-{name}.html" for name in ("features", "baseline", "recommended"))}


def test_text_from_data_is_escaped(pages: dict[str, str]) -> None:
    for page in pages.values():
        tags = Tags(page).tags
        assert "onerror" in page and "&lt;script&gt;" in page  # the hostile labels are shown ...
        assert not any("onerror" in attributes for _, attributes in tags)  # ... and stay text
        assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base", "form"}


def test_the_page_has_everything_inside(folder: Path, pages: dict[str, str]) -> None:
    tags = Tags(pages["index.html"]).tags
    assert all((a.get("src") or "").startswith("data:image/") for tag, a in tags if tag == "img")
    links = [a["href"] or "" for tag, a in tags if tag == "a"]
    for link in links:
        assert link.startswith("#") or (folder / link).exists(), link


def test_every_image_has_a_text(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert all(a.get("alt") for tag, a in Tags(page).tags if tag == "img")


def test_clips_play_where_the_videos_are_and_are_blank_where_not(folder: Path, pages: dict[str, str]) -> None:
    page = pages["gallery-recommended.html"]
    films = [str(a["href"]) for tag, a in Tags(page).tags if tag == "a" and a.get("class") == "play"]
    stills = [str(a["src"]) for tag, a in Tags(page).tags if tag == "img"]
    assert films and len(films) == len(stills) and page.count('class="blank"') > 3
    for film, still in zip(films[:20], stills[:20], strict=True):
        with av.open(str(folder / film)) as file:
            assert {stream.type for stream in file.streams} == {"video", "audio"}
        assert (folder / still).read_bytes().startswith(b"\xff\xd8")


def test_plots_are_png_and_svg(folder: Path) -> None:
    names = {kind: {path.stem for path in (folder / "plots").glob(f"*.{kind}")} for kind in ("png", "svg")}
    assert names["png"] == names["svg"]
    assert {"overview", "loss-baseline", "ranks-segment-baseline", "probes-genre", "classes-tagging"} <= names["png"]
    assert {"map-pca-audio-features", "map-pca-video-recommended", "confusion-genre-features"} <= names["png"]


def table(report_folder: Path, name: str) -> list[dict[str, str]]:
    """A table of the report."""
    with open(report_folder / "tables" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_numbers_beside_the_papers_do_not_flatter(folder: Path, pages: dict[str, str]) -> None:
    """F1 at a threshold of one half stands beside F1 at chosen ones; the published formula stands there once."""
    (row,) = (r for r in table(folder, "table_2") if (r["experiment"], r["representation"]) == ("features", "audio"))
    assert 0 <= float(row["genre_f1_at_half"]) <= 1 and row["genre_f1_at_half_low"] and row["genre_f1"]
    assert pages["index.html"].count("at ½: ") >= 6 and "one half" not in pages["index.html"]
    formulas = {(r["experiment"], r["direction"]): r["published_formula"] for r in table(folder, "table_1")}
    assert all(bool(value) == (direction == "video_to_audio") for (_, direction), value in formulas.items())
    assert "effective rank of" in pages["index.html"].lower()


def test_a_test_split_of_few_groups_is_warned_of(folder: Path, pages: dict[str, str], tmp_path: Path) -> None:
    assert '<p class="warning">The test split has 7 groups: 95 % intervals' in pages["index.html"]  # the artists
    config = copied(folder, tmp_path / "results")
    for name in config.heads.experiments:
        path = config.paths.eval(name) / "retrieval.json"
        path.write_text(path.read_text().replace('"test_groups": ', '"test_groups": 40, "of": '))
    assert '<p class="warning">The test split has' not in report(config).read_text()


def test_headings_and_sentences_name_the_whole_space(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space of an experiment's own backbones has their names, with hyphens."""

    def renamed(run: Run, plots: Path) -> Drawn:
        return {name.replace("map-features", "map-features-a-b"): shown for name, shown in draw(run, plots).items()}

    monkeypatch.setattr("eval.report.__main__.draw", renamed)
    text = report(copied(folder, tmp_path / "results")).read_text()
    assert "<h4>features-a-b, PCA</h4>" in text and "<h4>recommended, PCA</h4>" in text
    assert "In the embeddings of “recommended”, the 3 nearest videos of other groups" in text


def test_tables_hold_what_was_measured(folder: Path) -> None:
    def read(name: str) -> list[dict[str, str]]:
        return table(folder, name)

    measured = json.loads((folder.parent / "eval" / "baseline" / "retrieval.json").read_text())["results"]
    assert len(read("retrieval")) == 2 * len(measured)
    first = next(row for row in read("table_1") if row["experiment"] == "baseline")
    assert float(first["median"]) == measured[0]["metrics"]["median"]["value"] and first["paper"] == "507"
    assert {row["representation"] for row in read("table_2")} == {
        "audio", "video", "audio_video", "cl_audio", "cl_video", "cl_aggregated"
    }  # fmt: skip
    assert {row["seed"] for row in read("losses")} == {"0", "1"}
    verdicts = {row["finding"]: row["verdict"] for row in read("diagnosis") if row["experiment"] == "baseline"}
    assert verdicts["loss_floor"] == "found" and "Loss floor" in (folder / "index.html").read_text()
    assert EVIL in read("neighbours")[0]["query"]


def copied(folder: Path, results: Path, **evaluation: object) -> Config:
    """The run that the report is of, in another folder, with other keys of `eval`."""
    shutil.copytree(folder.parent, results, ignore=shutil.ignore_patterns("media", "film.mp4"))
    plain = read(results / "config.json").model_dump(mode="json") | {"results": str(results)}
    plain["eval"] = {"bootstrap": 100} | evaluation
    write_json(results / "config.json", plain)
    return load(plain)


def headings(page: str) -> list[str]:
    """Those of the table with all figures of the first experiment's retrieval, without their arrows."""
    head = page.split("All retrieval metrics", 1)[1].split("</thead>", 1)[0]
    return [cell.split(">")[-1].removesuffix(" ↑").removesuffix(" ↓") for cell in head.split("<th")[2:]]


def test_one_record_makes_a_metric(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up one is measured, resampled, compared and shown; nothing else changes."""
    config = copied(folder, tmp_path / "results")
    before = json.loads((folder.parent / "eval" / "baseline" / "retrieval.json").read_text())
    made_up = Metric(
        "of_a_hundred",
        "Of a hundred",
        per_query=lambda ranks: ranks[:, 0] / 100,
        chance=lambda gallery, positives: (gallery + 1) / 200,
        lower_is_better=True,
        shown="percent",
    )
    monkeypatch.setitem(METRICS, made_up.name, made_up)
    for name in config.heads.experiments:
        written = retrieval(config, name)
    compared = [line for line in compare(config)["results"] if line["metric"] == made_up.name]
    assert len(compared) == 4 and all(line["low"] <= line["difference"] <= line["high"] for line in compared)
    page = report(config)
    row = table(page.parent, "retrieval")[-len(written["results"])]  # the first of the last experiment
    measured = written["results"][0]["metrics"][made_up.name]
    assert float(row[made_up.name]) == measured["value"] and 0 < measured["low"] < measured["value"] < measured["high"]
    assert float(row[f"{made_up.name}_chance"]) == (int(row["gallery"]) + 1) / 200
    assert any(line["metric"] == made_up.name for line in table(page.parent, "comparisons"))
    text = page.read_text()
    assert headings(text)[2:] == [metric.title for metric in METRICS.values()] and headings(text)[-1] == made_up.title
    assert f"{made_up.title} ↓" in text and f"chance {number((int(row['gallery']) + 1) / 2)}%" in text
    after = json.loads((tmp_path / "results" / "eval" / "baseline" / "retrieval.json").read_text())
    for result in after["results"]:
        result["metrics"].pop(made_up.name)
    assert after == before


def test_results_of_before_a_metric_was_added_stay_readable(folder: Path, tmp_path: Path) -> None:
    """As earlier versions wrote them: six metrics, and one gallery in the configuration."""
    config = copied(folder, tmp_path / "results", gallery=1000)
    six = ["median", "mean", "recall_at_1", "recall_at_5", "recall_at_10", "mrr"]
    for name in config.heads.experiments:
        path = tmp_path / "results" / "eval" / name / "retrieval.json"
        written = json.loads(path.read_text())
        for result in written["results"]:
            result["metrics"] = {metric: result["metrics"][metric] for metric in six}
        write_json(path, written)
        tensors = load_file(path.with_suffix(".safetensors"))
        cut = {key: values if key == "rows" else values[:, :6].copy() for key, values in tensors.items()}
        save_file(cut, path.with_suffix(".safetensors"))
    assert config.eval.galleries == [1000]
    before = json.loads((folder.parent / "eval" / "comparison.json").read_text())
    kept = [line for line in before["results"] if line["metric"] in six]
    assert compare(config)["results"] == kept
    page = report(config)
    assert headings(page.read_text())[2:] == [METRICS[name].title for name in six]
    assert "mrr" in table(page.parent, "retrieval")[0] and "map" not in table(page.parent, "retrieval")[0]


def with_random_weights(config: Config, *spaces: str) -> str:
    """Say in the results that R(2+1)D ran on random weights and that these spaces read it; return the page's text."""
    paths = config.paths
    plan = json.loads(paths.plan.read_text())
    plan["backbones"]["r2plus1d"]["random_weights"] = True
    write_json(paths.plan, plan)
    for space in ("features", *config.heads.experiments):
        files = ("neighbours", "retrieval") if space != "features" else ("neighbours",)
        for name in files:
            path = paths.eval(space) / f"{name}.json"
            written = json.loads(path.read_text())
            written["random_weights"] = {"musicnn": False, "r2plus1d": space in spaces}
            write_json(path, written)
    return " ".join(report(config).read_text().split())


def test_random_weights_are_told_where_they_concern_something(folder: Path, tmp_path: Path) -> None:
    config = copied(folder, tmp_path / "results")
    text = with_random_weights(config, "features", "baseline")
    banner = text.index("r2plus1d ran on random weights")
    assert text.index("Summary") < text.index('id="table1"') < banner and "trained backbone: baseline." in text
    assert re.search("baseline</a> <em>random", text) and not re.search("recommended</a> <em>random", text)
    galleries = {name: (config.paths.report / f"gallery-{name}.html").read_text() for name in config.heads.experiments}
    assert "random weights" in galleries["baseline"] and "random weights" not in galleries["recommended"]
    everything = with_random_weights(config, "features", "baseline", "recommended")
    assert everything.index("r2plus1d ran on random weights") < everything.index("Summary")


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


def test_near_duplicates_are_shown_where_they_were_looked_for(folder: Path, tmp_path: Path) -> None:
    assert "Not looked for. <code>snakemake duplicates …</code>" in section(folder / "index.html")
    assert table(folder, "duplicates") == []
    config = copied(folder, tmp_path / "results")
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


def test_near_duplicates_of_something_else_are_not_shown(folder: Path, tmp_path: Path) -> None:
    config = copied(folder, tmp_path / "results")
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


def test_a_clip_keeps_the_aspect_ratio_and_no_metadata(tmp_path: Path) -> None:
    def bright(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), 200, np.uint8)

    upright = Video(regular(4, 10), width=90, height=160, draw=bright)
    path = write(tmp_path / "tall.mp4", upright, Audio(4.0))
    sizes = clip(path, 0.5, 2.0, str(tmp_path / "out"), "pyav")
    assert sizes == tuple((tmp_path / f"out.{kind}").stat().st_size for kind in ("mp4", "jpg"))
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert not {"title", "artist", "comment"} & set(file.metadata)
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 20 and frames[0].shape == (HEIGHT, WIDTH, 3)
    lit = frames[10].mean(axis=(0, 2)) > 100
    assert lit.sum() == pytest.approx(HEIGHT * 90 / 160, abs=4) and not lit[:40].any() and not lit[-40:].any()


def test_clips_are_cut_once_up_to_a_limit_and_removed_when_not_shown(tmp_path: Path) -> None:
    film = write(tmp_path / "film.mp4", Video(regular(12, 5)), Audio(12.0))
    config = simulate(tmp_path / "results", videos=20)
    items = [{"video_id": f"v{i}", "path": film, "start": float(i)} for i in range(6)]
    items.append({"video_id": "gone", "path": str(tmp_path / "gone.mp4"), "start": 1.0})
    every = media.cut(items, config, tmp_path)
    assert len(every.names) == 6 and list(every.unreadable) == [("gone", 1.0)] and not every.left_out
    files = sorted((tmp_path / media.FOLDER).iterdir())
    written = {path: path.stat().st_mtime_ns for path in files}
    assert len(files) == 12 and every.bytes == sum(path.stat().st_size for path in files)
    again = media.cut(items[:3], config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / media.FOLDER).iterdir()}.items() <= written.items()
    assert len(list((tmp_path / media.FOLDER).iterdir())) == 6 and len(again.names) == 3
    few = media.cut(items[:6], config, tmp_path, limit=1)
    assert 1 <= len(few.names) < 6 and few.left_out + len(few.names) == 6


def test_few_videos_make_a_report_without_heads(tmp_path: Path) -> None:
    config = simulate(tmp_path, videos=20, unreadable=range(5, 20))
    index_cache(config)
    page = report(config)
    text = page.read_text()
    assert "No projection heads were fitted" in text and "at least 10, 2 and 2" in " ".join(text.split())
    with open(page.parent / "tables" / "coverage.csv", newline="") as file:
        rows = {row["backbone"]: row["videos"] for row in csv.DictReader(file)}
    assert rows == {"musicnn": "20", "r2plus1d": "5"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.123"), (36.5, "36.5"), (12345.6, "12,346"), (7.0, "7"), (-0.5, "-0.500"), (None, "–")],
)
def test_numbers_are_written_for_readers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_what_rounds_to_zero_is_not_negative() -> None:
    assert [signed(value) for value in (-0.01, 0.0, -0.06, 2.5)] == ["+0.0", "+0.0", "-0.1", "+2.5"]


@pytest.mark.parametrize(
    ("random", "lead"),
    [
        ({"baseline": False, "mine": False, "on_random": True}, "mine"),
        ({"recommended": True, "mine": False}, "mine"),
        ({"recommended_lite": False, "mine": False, "recommended": True}, "recommended_lite"),
        ({"baseline": True, "mine": True}, "mine"),
        ({}, None),
    ],
)
def test_an_experiment_on_random_weights_leads_only_where_there_is_no_other(
    random: dict[str, bool], lead: str | None
) -> None:
    """The summary's details, maps and gallery are of one experiment."""
    run = Mock(experiments=[Mock(random_backbones=["net"] if is_random else []) for is_random in random.values()])
    for experiment, name in zip(run.experiments, random, strict=True):
        experiment.name = name
    chosen = Run.lead.fget(run)  # type: ignore[attr-defined]
    assert (chosen.name if chosen else None) == lead


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("page", ["index.html", "gallery-recommended.html"])
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(folder: Path, page: str) -> None:
    assert_quiet(folder, page)


def test_words_between_backticks_are_code_and_stay_escaped() -> None:
    assert code("set `output: linear` <b>") == "set <code>output: linear</code> &lt;b&gt;"
