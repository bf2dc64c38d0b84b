"""Several backbones in one pass, as a user runs the workflow: what runs together, what again, and what does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.runs import TINY_SEGMENTS
from config.files import read_json
from config.paths import Paths
from tests.support.commands import ROOT, start, wait_until
from tests.support.media import Audio, Video, regular, write
from tests.support.workflow import leftovers, planned_rules, snakemake

COUNT, SHARD = 16, 12
A = {"kind": "light_video", "weights": "random"}
B = A | {"options": {"fps": 5.0}}
DONE = "Nothing to be done"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of equal videos."""
    folder = tmp_path_factory.mktemp("media")
    first = write(folder / "v00.mp4", Video(regular(4, 25), gop=25), Audio(4))
    for number in range(1, COUNT):
        os.link(first, folder / f"v{number:02d}.mp4")
    return folder


@pytest.fixture(scope="module", autouse=True)
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let every process know the kinds of bench.light."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text("import bench.light\nbench.light.register()\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        yield


def configuration(folder: Path, media: Path, **backbones: dict[str, Any]) -> dict[str, Any]:
    return {
        "results": str(folder / "results"),
        "videos": str(media),
        "shard_videos": SHARD,
        "segments": TINY_SEGMENTS,
        "backbones": backbones,
        "heads": {"audio": "a", "video": "a"},
    }


@pytest.fixture
def extracted(media: Path, tmp_path: Path) -> tuple[Path, dict[str, Any], Paths]:
    """A finished extraction of two backbones in one pass. Not a copy: of those Snakemake knows too little."""
    config = configuration(tmp_path, media, a=A, b=B)
    snakemake(tmp_path, config, "extract")
    return tmp_path, config, Paths(tmp_path / "results")


def passes(paths: Paths) -> list[list[str]]:
    plan = read_json(paths.plan)
    assert plan is not None
    return plan["passes"]


def known(paths: Paths, title: str, shard: int = 0) -> dict[str, int]:
    """Return {backbone: videos that its last job had from before}, by the log of the pass."""
    log = (paths.results / "logs" / "extract" / title / f"{shard:05d}.log").read_text()
    return {name: int(n) for name, n in re.findall(r"(\w+) \d{5}: \d+ videos, (\d+) of them done already", log)}


def records(paths: Paths, *names: str) -> dict[str, bytes]:
    return {name: paths.done(name, shard).read_bytes() for name in names for shard in (0, 1)}


def test_two_backbones_are_one_job(extracted: tuple[Path, dict[str, Any], Paths]) -> None:
    folder, config, paths = extracted
    assert passes(paths) == [["a", "b"]] and known(paths, "a_with_b") == {"a": 0, "b": 0}
    assert known(paths, "a_with_b", 1) == {"a": 0, "b": 0}
    record = read_json(paths.done("b", 1))
    assert record is not None and record["valid"] == record["rows"] == COUNT - SHARD
    assert DONE in snakemake(folder, config, "extract", "-n") and not leftovers(paths.results)
    forced = snakemake(folder, config, "extract", "-n", "--forcerun", "extract_a_with_b")
    assert re.search(r"^extract_a_with_b +2$", forced, re.M)


def test_two_passes_of_several_backbones_each_compute_their_own(media: Path, tmp_path: Path) -> None:
    on_cpu = {"device": "cpu"}
    config = configuration(tmp_path, media, a=A, b=B, c=A | on_cpu, d=B | on_cpu)
    snakemake(tmp_path, config, "extract")
    paths = Paths(tmp_path / "results")
    assert passes(paths) == [["a", "b"], ["c", "d"]]
    for shard in (0, 1):
        assert known(paths, "a_with_b", shard) == {"a": 0, "b": 0} and known(paths, "c_with_d", shard) == {
            "c": 0,
            "d": 0,
        }
    assert set(records(paths, "a", "b", "c", "d")) == set("abcd")


def test_one_that_comes_later_decodes_for_itself(extracted: tuple[Path, dict[str, Any], Paths]) -> None:
    folder, config, paths = extracted
    before = records(paths, "a", "b")
    config["backbones"] = {"c": A | {"seed": 3}, **config["backbones"]}
    rules = planned_rules(snakemake(folder, config, "extract", "-n"))
    assert "extract_a_with_b" not in rules
    snakemake(folder, config, "extract")
    assert passes(paths) == [["a", "b"], ["c"]] and known(paths, "c") == {"c": 0}
    assert records(paths, "a", "b") == before
    assert DONE in snakemake(folder, config, "extract", "-n")
    # Weights of one that is not alone: its pass looks again, for it alone.
    config["backbones"]["b"] = B | {"seed": 1}
    snakemake(folder, config, "extract")
    assert known(paths, "a_with_b") == {"a": SHARD, "b": 0}
    after = records(paths, "a", "b")
    assert after["a"] == before["a"] and after["b"] != before["b"]
    assert DONE in snakemake(folder, config, "extract", "-n")
    # One leaves: what is left is alone, and there already.
    del config["backbones"]["b"]
    snakemake(folder, config, "extract")
    assert passes(paths) == [["a"], ["c"]] and known(paths, "a") == {"a": SHARD}
    assert records(paths, "a")["a"] == before["a"]
    assert DONE in snakemake(folder, config, "extract", "-n")


def test_a_pass_killed_in_the_middle_goes_on(extracted: tuple[Path, dict[str, Any], Paths]) -> None:
    folder, config, paths = extracted
    before = records(paths, "a", "b")
    for name in ("a", "b"):
        shutil.rmtree(paths.ledger(name, 0, "key").parents[1])
        paths.done(name, 0).unlink()
    paths.features_record.unlink()
    (folder / "config.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", "extract", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml"), "--nolock"]
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    journal = paths.work("b", 0) / "journal"
    with start(command, cwd=folder, start_new_session=True, **nowhere) as process:
        wait_until(process, lambda: journal.exists() and journal.stat().st_size > 300)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not paths.done("b", 0).exists()
    snakemake(folder, config, "extract")
    resumed = known(paths, "a_with_b")
    assert 0 < resumed["a"] < SHARD and 0 < resumed["b"] < SHARD
    assert records(paths, "a", "b") == before and not leftovers(paths.results)
    assert DONE in snakemake(folder, config, "extract", "-n")


def test_an_older_folder_stays_as_it_is(media: Path, tmp_path: Path) -> None:
    """In plans of older versions each backbone is alone, also when they are made again."""
    config = configuration(tmp_path, tmp_path / "media", a=A, b=B)
    (tmp_path / "media").mkdir()
    for file in sorted(media.iterdir())[:-2]:
        os.link(file, tmp_path / "media" / file.name)
    paths = Paths(tmp_path / "results")
    snakemake(tmp_path, config, str(paths.plan))
    plan, when = read_json(paths.plan), paths.plan.stat()
    assert plan is not None and plan.pop("passes") == [["a", "b"]]
    paths.plan.write_text(json.dumps(plan))
    os.utime(paths.plan, ns=(when.st_atime_ns, when.st_mtime_ns))
    snakemake(tmp_path, config, "extract")
    assert known(paths, "a") == {"a": 0} and known(paths, "b") == {"b": 0}
    assert DONE in snakemake(tmp_path, config, "extract", "-n")
    for file in sorted(media.iterdir())[-2:]:
        os.link(file, tmp_path / "media" / file.name)
    printed = snakemake(tmp_path, config, "extract")
    assert passes(paths) == [["a"], ["b"]] and "extract_a_with_b" not in printed
    assert known(paths, "a", 1) == {"a": COUNT - SHARD - 2} and known(paths, "b", 0) == {"b": 0}
    assert DONE in snakemake(tmp_path, config, "extract", "-n")


def test_deleting_the_plan_costs_no_decoding(extracted: tuple[Path, dict[str, Any], Paths]) -> None:
    folder, config, paths = extracted
    config["backbones"]["c"] = A | {"seed": 3}
    snakemake(folder, config, "extract")
    before = records(paths, "a", "b", "c")
    paths.plan.unlink()
    snakemake(folder, config, "extract")
    assert passes(paths) == [["a", "b", "c"]] and known(paths, "a_with_b_with_c") == dict.fromkeys("abc", SHARD)
    assert records(paths, "a", "b", "c") == before
