"""The pages and tables of a report: text from data is escaped, missing videos and heads are reported."""

import csv
import json
import re
from pathlib import Path
from unittest.mock import Mock

import av
import pytest
from safetensors.numpy import load_file, save_file

from config.files import write_json
from config.model import Config
from eval.compare import compare
from eval.report.__main__ import report
from eval.report.draw import Drawn, draw
from eval.report.gather import Run
from eval.report.page import code, number, signed
from eval.retrieval import retrieval
from heads.metrics import METRICS, Metric
from tests.support.browser import CHROMIUM, assert_quiet
from tests.support.page import EVIL, Tags
from tests.support.report import copied, table
from tests.support.simulate import index_cache, simulate

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def pages(report_folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(report_folder.glob("*.html"))}


def test_the_pages_are_there(pages: dict[str, str]) -> None:
    assert set(pages) == {"index.html", *(f"gallery-{name}.html" for name in ("features", "baseline", "recommended"))}


def test_text_from_data_is_escaped(pages: dict[str, str]) -> None:
    for page in pages.values():
        tags = Tags(page).tags
        assert "onerror" in page and "&lt;script&gt;" in page  # the hostile labels are shown ...
        assert not any("onerror" in attributes for _, attributes in tags)  # ... and stay text
        assert not {tag for tag, _ in tags} & {"script", "iframe", "object", "embed", "base", "form"}


def test_the_page_has_everything_inside(report_folder: Path, pages: dict[str, str]) -> None:
    tags = Tags(pages["index.html"]).tags
    assert all((a.get("src") or "").startswith("data:image/") for tag, a in tags if tag == "img")
    links = [a["href"] or "" for tag, a in tags if tag == "a"]
    for link in links:
        assert link.startswith("#") or (report_folder / link).exists(), link


def test_every_image_has_a_text(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert all(a.get("alt") for tag, a in Tags(page).tags if tag == "img")


def test_clips_play_where_the_videos_are_and_are_blank_where_not(report_folder: Path, pages: dict[str, str]) -> None:
    page = pages["gallery-recommended.html"]
    films = [str(a["href"]) for tag, a in Tags(page).tags if tag == "a" and a.get("class") == "play"]
    stills = [str(a["src"]) for tag, a in Tags(page).tags if tag == "img"]
    assert films and len(films) == len(stills) and page.count('class="blank"') > 3
    for film, still in zip(films[:20], stills[:20], strict=True):
        with av.open(str(report_folder / film)) as file:
            assert {stream.type for stream in file.streams} == {"video", "audio"}
        assert (report_folder / still).read_bytes().startswith(b"\xff\xd8")


def test_plots_are_png_and_svg(report_folder: Path) -> None:
    names = {kind: {path.stem for path in (report_folder / "plots").glob(f"*.{kind}")} for kind in ("png", "svg")}
    assert names["png"] == names["svg"]
    assert {"overview", "loss-baseline", "ranks-segment-baseline", "probes-genre", "classes-tagging"} <= names["png"]
    assert {"map-pca-audio-features", "map-pca-video-recommended", "confusion-genre-features"} <= names["png"]


def test_numbers_beside_the_papers_do_not_flatter(report_folder: Path, pages: dict[str, str]) -> None:
    """F1 at a threshold of one half stands beside F1 at chosen ones; the published formula stands there once."""
    (row,) = (
        r for r in table(report_folder, "table_2") if (r["experiment"], r["representation"]) == ("features", "audio")
    )
    assert 0 <= float(row["genre_f1_at_half"]) <= 1 and row["genre_f1_at_half_low"] and row["genre_f1"]
    assert pages["index.html"].count("at ½: ") >= 6 and "one half" not in pages["index.html"]
    formulas = {(r["experiment"], r["direction"]): r["published_formula"] for r in table(report_folder, "table_1")}
    assert all(bool(value) == (direction == "video_to_audio") for (_, direction), value in formulas.items())
    assert "effective rank of" in pages["index.html"].lower()


def test_a_test_split_of_few_groups_is_warned_of(report_folder: Path, pages: dict[str, str], tmp_path: Path) -> None:
    assert '<p class="warning">The test split has 7 groups: 95 % intervals' in pages["index.html"]  # the artists
    config = copied(report_folder, tmp_path / "results")
    for name in config.heads.experiments:
        path = config.paths.eval(name) / "retrieval.json"
        path.write_text(path.read_text().replace('"test_groups": ', '"test_groups": 40, "of": '))
    assert '<p class="warning">The test split has' not in report(config).read_text()


def test_headings_and_sentences_name_the_whole_space(
    report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space of an experiment's own backbones has their names, with hyphens."""

    def renamed(run: Run, plots: Path) -> Drawn:
        return {name.replace("map-features", "map-features-a-b"): shown for name, shown in draw(run, plots).items()}

    monkeypatch.setattr("eval.report.__main__.draw", renamed)
    text = report(copied(report_folder, tmp_path / "results")).read_text()
    assert "<h4>features-a-b, PCA</h4>" in text and "<h4>recommended, PCA</h4>" in text
    assert "In the embeddings of “recommended”, the 3 nearest videos of other groups" in text


def test_tables_hold_what_was_measured(report_folder: Path) -> None:
    def read(name: str) -> list[dict[str, str]]:
        return table(report_folder, name)

    measured = json.loads((report_folder.parent / "eval" / "baseline" / "retrieval.json").read_text())["results"]
    assert len(read("retrieval")) == 2 * len(measured)
    first = next(row for row in read("table_1") if row["experiment"] == "baseline")
    assert float(first["median"]) == measured[0]["metrics"]["median"]["value"] and first["paper"] == "507"
    assert {row["representation"] for row in read("table_2")} == {
        "audio", "video", "audio_video", "cl_audio", "cl_video", "cl_aggregated"
    }  # fmt: skip
    assert {row["seed"] for row in read("losses")} == {"0", "1"}
    verdicts = {row["finding"]: row["verdict"] for row in read("diagnosis") if row["experiment"] == "baseline"}
    assert verdicts["loss_floor"] == "found" and "Loss floor" in (report_folder / "index.html").read_text()
    assert EVIL in read("neighbours")[0]["query"]


def headings(page: str) -> list[str]:
    """Those of the table with all figures of the first experiment's retrieval, without their arrows."""
    head = page.split("All retrieval metrics", 1)[1].split("</thead>", 1)[0]
    return [cell.split(">")[-1].removesuffix(" ↑").removesuffix(" ↓") for cell in head.split("<th")[2:]]


def test_one_record_makes_a_metric(report_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up one is measured, resampled, compared and shown; nothing else changes."""
    config = copied(report_folder, tmp_path / "results")
    before = json.loads((report_folder.parent / "eval" / "baseline" / "retrieval.json").read_text())
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


def test_results_of_before_a_metric_was_added_stay_readable(report_folder: Path, tmp_path: Path) -> None:
    """As earlier versions wrote them: six metrics, and one gallery in the configuration."""
    config = copied(report_folder, tmp_path / "results", gallery=1000)
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
    before = json.loads((report_folder.parent / "eval" / "comparison.json").read_text())
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


def test_random_weights_are_told_where_they_concern_something(report_folder: Path, tmp_path: Path) -> None:
    config = copied(report_folder, tmp_path / "results")
    text = with_random_weights(config, "features", "baseline")
    banner = text.index("r2plus1d ran on random weights")
    assert text.index("Summary") < text.index('id="table1"') < banner and "trained backbone: baseline." in text
    assert re.search("baseline</a> <em>random", text) and not re.search("recommended</a> <em>random", text)
    galleries = {name: (config.paths.report / f"gallery-{name}.html").read_text() for name in config.heads.experiments}
    assert "random weights" in galleries["baseline"] and "random weights" not in galleries["recommended"]
    everything = with_random_weights(config, "features", "baseline", "recommended")
    assert everything.index("r2plus1d ran on random weights") < everything.index("Summary")


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
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(report_folder: Path, page: str) -> None:
    assert_quiet(report_folder, page)


def test_words_between_backticks_are_code_and_stay_escaped() -> None:
    assert code("set `output: linear` <b>") == "set <code>output: linear</code> &lt;b&gt;"
