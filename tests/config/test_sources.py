"""What the user wrote: duplicate keys, text that YAML takes for numbers, names in any locale; with Snakemake itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from config.cli import UserError
from config.model import load
from config.sources import refuse_duplicates, written
from tests.support.commands import ROOT, execute

DUPLICATES = {
    "at the top": ("results: a\nvideos: b\nresults: c\n", ["'results'", "lines 1 and 3"]),
    "nested": ("segments:\n  count: 3\n  seconds: 3\n  count: 6\n", ["'segments.count'", "lines 2 and 4"]),
    "in one line": ("heads: {seeds: [0], seeds: [1]}\n", ["'heads.seeds'", "lines 1 and 1"]),
    "a section": ("segments: {count: 3}\nsplits: {}\nsegments: {seed: 1}\n", ["'segments'", "lines 1 and 3"]),
    "in a list": ("a:\n- {b: 1}\n- {b: 1, c: 2, b: 3}\n", ["'a.1.b'"]),
    "quoted": ("a: 1\n'a': 2\n", ["'a'"]),
    "beside a merged one": ("x: &x {a: 1}\ny:\n  <<: *x\n  b: 1\n  b: 2\n", ["'y.b'"]),
    "in JSON": ('{"segments": {"count": 3,\t"count": 6}}', ["'count'"]),
}


@pytest.mark.parametrize("kind", DUPLICATES)
def test_a_key_that_stands_twice_is_refused(tmp_path, kind):
    text, words = DUPLICATES[kind]
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        refuse_duplicates([file])
    for word in [str(file), "twice", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: *x\n", "a: {b: 1}\nc: {b: 1}\n", '{"a": 1, "A": 2}', "a: [b\n", "- a\n"],
)
def test_other_files_are_not_judged(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    refuse_duplicates([tmp_path / "c.yaml", tmp_path / "none.yaml"])


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "c.yaml").write_bytes("results: é\n".encode("latin-1"))
    with pytest.raises(UserError, match="c.yaml is not UTF-8"):
        refuse_duplicates([tmp_path / "c.yaml"])


@pytest.mark.parametrize("name", ["demo", "paper", "study", "study_demo", "search"])
def test_the_shipped_files_have_no_key_twice(name):
    refuse_duplicates([ROOT / "config" / f"{name}.yaml"])


@pytest.mark.parametrize("text", ["2024_11_25", "2024-11-25", "007", "0x10", "1e5", "1.50", "yes", "no", "12:30", ".5"])
def test_text_that_yaml_takes_for_something_else_is_taken_as_text(tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(f"results: {text}\nvideos: v.csv\nlabels: {{msd_summary: {text}}}\n", encoding="utf-8")
    raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    config = load(raw, lambda: written([file], []))
    assert config.results == config.labels.msd_summary == text
    parsed = {"results": 20241125, "videos": "v.csv"}  # Snakemake's own reading of the command line
    arguments = ["videos=v.csv", f"results={text}"]
    assert load(parsed, lambda: written([], arguments)).results == text
    with pytest.raises(UserError, match="results: should be text, but was read as int 20241125; put it in quotes"):
        load(parsed)


def test_the_command_line_comes_after_the_files(tmp_path):
    (tmp_path / "c.yaml").write_text("results: 1_0\nvideos: 1\n", encoding="utf-8")
    keys = written([tmp_path / "c.yaml"], ["results=2_0"])
    assert keys == {("results",): "2_0", ("videos",): "1"}


RUN = {
    "backbones": {"musicnn": {"weights": "random"}},
    "heads": {"audio": "musicnn", "video": "musicnn"},
}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale in which Python reads names as ASCII: what every machine has, and behaves as ISO-8859-1 does."""


def snakemake(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "1", "--nolock"]
    command += ["--workflow-profile", ROOT / "profiles" / "default", *arguments]
    whole = {**os.environ, **(env or {})}
    return execute(command, cwd=folder, env=whole, stderr=subprocess.STDOUT, text=False)


@pytest.mark.workflow
def test_snakemake_refuses_duplicates_and_wrong_options_before_any_job(tmp_path):
    (tmp_path / "v.csv").write_text("video_id,path\na,x.mp4\n", encoding="utf-8")
    file = tmp_path / "c.yaml"
    for text, words in {
        "videos: v.csv\nresults: a\nresults: b\n": b"'results' stands twice",
        "videos: v.csv\nresults: a\nsegments: {seconds: 2.5}\n": b"segments.seconds: 2.5, but musicnn needs",
        "videos: v.csv\nresults: v.csv/x\n": b"results: v.csv is a file",
        "videos: v.csv\nresults: a\nsegments: {count: 3}\n": b"study.aggregation.replaced: 3 must be below",
        "videos: v.csv\nresults: a\nstudy: {relations: {permutations: 5}}\n": b"study.relations.permutations: 5 draws",
        "videos: v.csv\nresults: a\n": b"sound_descriptors and picture_descriptors missing",
        "videos: c.yaml\nresults: a\n": b"neither a folder nor one of .csv",
    }.items():
        file.write_text(text, encoding="utf-8")
        done = snakemake(tmp_path, "manifest", "study", "--dry-run", "--configfile", str(file))
        assert done.returncode and words in done.stdout and b"Traceback (most" not in done.stdout, done.stdout


@pytest.mark.workflow
def test_results_are_where_they_should_be_in_any_locale(tmp_path):
    """A path with an accent, and one that YAML takes for a number, in processes that would read names as ASCII."""
    name = "Beyoncé_ß"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "é.mp4").write_bytes(b"x")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(RUN | {"videos": name}, allow_unicode=True), encoding="utf-8")
    arguments = ["manifest", "--configfile", "c.yaml", "--config"]
    for results in (f"$OUT/r_{name}", "2024_11_25"):
        done = snakemake(tmp_path, *arguments, f"results={results}", env={**ASCII, "OUT": str(tmp_path)})
        assert done.returncode == 0, done.stdout.decode()
    for results in (f"r_{name}", "2024_11_25"):
        config = json.loads((tmp_path / results / "config.json").read_text(encoding="utf-8"))
        assert Path(config["results"]).name == results
        assert json.loads((tmp_path / results / "manifest.json").read_text(encoding="utf-8"))["rows"] == 1
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {name, f"r_{name}", "2024_11_25", "c.yaml", ".snakemake"}
    # By hand, from a path in bytes that are no ASCII.
    command = [sys.executable, "-m", "data.manifest", "--config", str(tmp_path / f"r_{name}" / "config.json")]
    done = execute(command, cwd=tmp_path, env={**os.environ, **ASCII, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "1 videos, 0 of them new" in done.stderr, done.stderr
    assert made == {path.name for path in tmp_path.iterdir()}
