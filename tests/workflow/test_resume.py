"""SIGKILL in the middle of a shard: only the unfinished videos are computed again, and nothing else differs."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import zarr

from config.files import read_json
from config.paths import Paths
from tests.support.commands import ROOT, execute, finish, start, wait_until
from tests.support.workflow import SHARD, keep_videos, leftovers, module, snakemake


def command(paths, part, shard=0):
    flags = ["--backbone", part] if part != "probe" else []
    name = "pipeline.extract" if flags else "pipeline.probe"
    return [sys.executable, "-m", name, "--config", str(paths.config), *flags, "--shard", str(shard)]


def kill_after(paths, part, size):
    """Run a shard until its journal has grown to `size` bytes, then kill it; False if it ended before."""
    journal = paths.work(part, 0) / "journal"
    process = start(command(paths, part))
    wait_until(process, lambda: process.poll() is not None or (journal.exists() and journal.stat().st_size >= size))
    process.kill()
    finish(process)
    return process.returncode == -signal.SIGKILL


@pytest.fixture
def extracted(copied):
    """One finished shard of the audio side: (folder, configuration, paths, its undisturbed record)."""
    folder, config = copied
    keep_videos(folder, SHARD)
    snakemake(folder, config, "extract")
    paths = Paths(folder / "results")
    return folder, config, paths, read_json(paths.done("musicnn", 0))


def forget(paths, part):
    """Remove everything that is known of shard 0, as if it had never been computed."""
    key = read_json(paths.done(part, 0))["key"]
    paths.done(part, 0).unlink()
    paths.ledger(part, 0, key).unlink()
    paths.features_record.unlink(missing_ok=True)
    for name in (part, f"{part}_valid") if part != "probe" else ("start", "duration"):
        for path in (paths.features / name / "c" / "0").rglob("*") if name == part else [paths.features / name / "c/0"]:
            if path.is_file():
                path.unlink()


def test_killed_again_and_again(extracted):
    folder, config, paths, undisturbed = extracted
    forget(paths, "musicnn")
    known, kills = 0, 0
    record = 2 * 1506 * 2  # bytes of a video's features
    for videos in (0, 2, 3, 7, 11):
        kills += kill_after(paths, "musicnn", 60 + videos * record)
        size = (paths.work("musicnn", 0) / "journal").stat().st_size
        assert size // record >= known  # never less than before
        known = size // record
    assert kills == 5 and known >= 10
    done = execute(command(paths, "musicnn"), check=True)
    resumed = int(re.search(rf"{SHARD} videos, (\d+) of them done already", done.stderr)[1])
    assert known - 1 <= resumed <= known  # at most the record that was being written is lost
    assert read_json(paths.done("musicnn", 0)) == undisturbed
    assert not leftovers(paths.results)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_it_writes_what_it_has(extracted, number, status):
    folder, config, paths, undisturbed = extracted
    forget(paths, "musicnn")
    journal = paths.work("musicnn", 0) / "journal"
    process = start(command(paths, "musicnn"))
    wait_until(process, lambda: journal.exists() and journal.stat().st_size > 12_000)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    printed = finish(process)[1]
    left = re.search(rf"stopped by {number.name}: (\d+) of the {SHARD} videos are left", printed)
    assert process.returncode == status and left, printed
    assert children and not any(child.is_running() for child in children)
    assert not paths.done("musicnn", 0).exists()
    done = execute(command(paths, "musicnn"), check=True)
    assert f"{SHARD} videos, {SHARD - int(left[1])} of them done already" in done.stderr  # not one torn record
    assert read_json(paths.done("musicnn", 0)) == undisturbed


def test_a_killed_workflow_goes_on(extracted):
    folder, config, paths, undisturbed = extracted
    before = zarr.open_group(paths.features, mode="r")["musicnn"][:]
    forget(paths, "musicnn")
    forget(paths, "probe")
    file = folder / "config.yaml"
    arguments = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", file, "--cores", "2"]
    run = [sys.executable, "-m", "snakemake", "extract", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = start(run, cwd=folder, start_new_session=True, **quiet)
    journal = paths.work("musicnn", 0) / "journal"
    wait_until(process, lambda: journal.exists() and journal.stat().st_size > 30_000)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    snakemake(folder, config, "--unlock")
    snakemake(folder, config, "extract")
    assert read_json(paths.done("musicnn", 0)) == undisturbed
    np.testing.assert_array_equal(zarr.open_group(paths.features, mode="r")["musicnn"][:], before)


def test_a_damaged_shard_is_found_and_repaired(extracted):
    folder, config, paths, undisturbed = extracted
    path = next(p for p in (paths.features / "musicnn" / "c" / "0").rglob("*") if p.is_file())
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    verify = [sys.executable, "-m", "pipeline.verify", str(paths.results)]
    assert execute(verify).returncode == 1
    execute([*verify, "--repair"], check=True)
    snakemake(folder, config, "extract")
    assert execute(verify).returncode == 0
    assert read_json(paths.done("musicnn", 0)) == undisturbed


def test_results_do_not_depend_on_batch_and_threads(extracted):
    folder, config, paths, undisturbed = extracted
    forget(paths, "musicnn")
    backbones = {"musicnn": config["backbones"]["musicnn"] | {"batch": 5, "threads": 3}}
    done = module(config | {"backbones": backbones}, "pipeline.extract", "--backbone", "musicnn", "--shard", "0")
    assert done.returncode == 0, done.stderr
    features = zarr.open_group(paths.features, mode="r")["musicnn"][:SHARD].astype(np.float32)
    forget(paths, "musicnn")
    module(config, "pipeline.extract", "--backbone", "musicnn", "--shard", "0")
    again = zarr.open_group(paths.features, mode="r")["musicnn"][:SHARD].astype(np.float32)
    assert read_json(paths.done("musicnn", 0)) == undisturbed
    # Other thread counts may add in another order; float16 then differs by one step at most.
    np.testing.assert_allclose(features, again, rtol=1e-3, atol=1e-3)
