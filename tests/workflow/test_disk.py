"""Full disks, read-only folders, missing permissions, changed files and jumping clocks: exit 2 and words, or a result.

Whatever happens, no done record is without its shard, and the same command without the trouble ends like a run that
never had any. The jobs are real ones with `bench.light` as their backbone.
"""

import ctypes
import os
import resource
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.light import NAME
from bench.runs import ROOT, Run, write_table
from config.files import read_json
from config.pipeline import Render
from data.render import render_video
from tests.support.commands import execute
from tests.support.workflow import leftovers

BACKBONES = {NAME: {"weights": "none"}}
VIDEOS = 8
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """(results folder before its first job, table, {part: undisturbed record})."""
    folder = tmp_path_factory.mktemp("disk")
    render = Render(videos=2, seconds=(4.0, 5.0))
    media = [render_video(render, i, folder) for i in range(2)]
    (folder / "broken.mp4").write_bytes(media[0].read_bytes()[:3000])
    media.append(folder / "broken.mp4")
    table = write_table(folder / "videos.parquet", [(f"v{i}", media[i % 3]) for i in range(VIDEOS)])
    run = Run(folder / "results", table, BACKBONES, shard_videos=VIDEOS)
    run.prepare()
    shutil.copytree(folder / "results", folder / "finished")
    run = Run(folder / "finished", table, BACKBONES, shard_videos=VIDEOS)
    for part in run.parts:
        execute(run.job(part, 0), check=True)
    return folder / "results", table, {part: read_json(run.paths.done(part, 0)) for part in run.parts}


@pytest.fixture
def run(planned, tmp_path):
    return placed(planned, tmp_path / "results")


def placed(planned, results):
    """A copy of the planned results folder at `results`."""
    shutil.copytree(planned[0], results, dirs_exist_ok=True)
    return Run(results, planned[1], BACKBONES, shard_videos=VIDEOS)


def refused(run, done, *words):
    """The job ended as it should where the disk refuses: exit 2, one clear message, nothing torn."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr and "run the same command again" in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not any(run.torn(part, 0) for part in run.parts)


def goes_on(run, planned):
    for part in run.parts:
        execute(run.job(part, 0), check=True)
    assert {part: read_json(run.paths.done(part, 0)) for part in run.parts} == planned[2]
    assert not leftovers(run.paths.results)


@pytest.mark.parametrize("limit", [0, 10, 200, 400, 600])
def test_files_that_may_not_grow(run, planned, limit):
    """A file size limit cuts writes short anywhere: in the journal's title, in a record, in the shard."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    for part in run.parts:
        done = execute(run.job(part, 0), preexec_fn=limited)
        if done.returncode:
            refused(run, done, "File too large")
            break
    else:
        assert limit > 400, "it cannot have had room"
    goes_on(run, planned)


@contextmanager
def small_disk(size):
    """A file system of its own in memory; skips where nobody may mount one."""
    where = Path(tempfile.mkdtemp())
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)]
    if os.geteuid() != 0 or shutil.which("mount") is None or execute(options).returncode:
        where.rmdir()
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield where
    finally:
        execute(["umount", "--lazy", str(where)])
        where.rmdir()


def fill(folder, leave):
    """Fill the disk under `folder` but for about `leave` bytes."""
    with open(folder / "filler", "wb", buffering=0) as file:
        free = os.statvfs(folder)
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))


@pytest.mark.parametrize("pages", [0, 1, 3])
def test_a_full_disk(planned, pages):
    with small_disk("2m") as disk:
        run = placed(planned, disk / "results")
        fill(disk, pages * 4096)
        for part in run.parts:
            done = execute(run.job(part, 0))
            if done.returncode:
                refused(run, done, "No space left on device")
                break
        else:
            assert pages > 1, "it cannot have had room"
        (disk / "filler").unlink()
        goes_on(run, planned)


def test_the_log_on_the_full_disk_too(planned):
    """Not even the message can be written; the exit status still says that the user can mend it."""
    with small_disk("2m") as disk:
        run = placed(planned, disk / "results")
        with open(disk / "log", "w") as log:
            fill(disk, 0)
            done = execute(run.job("probe", 0), stdout=log, stderr=log)
        assert done.returncode == 2
        (disk / "filler").unlink()
        goes_on(run, planned)


def test_a_full_disk_before_the_first_job(planned):
    with small_disk("2m") as disk:
        run = Run(disk / "results", planned[1], BACKBONES, shard_videos=VIDEOS)
        fill(disk, 0)
        for module, *arguments in [("data.manifest",), ("pipeline.weights", "--backbone", NAME)]:
            refused(run, execute(run.command(module, *arguments)), "No space left on device")
        (disk / "filler").unlink()
        run.prepare()
        goes_on(run, planned)


def test_a_read_only_results_folder(planned):
    with small_disk("2m") as disk:
        run = placed(planned, disk / "results")
        assert execute(["mount", "-o", "remount,ro", str(disk)]).returncode == 0
        refused(run, execute(run.job("probe", 0)), "Read-only file system")
        assert execute(["mount", "-o", "remount,rw", str(disk)]).returncode == 0
        goes_on(run, planned)


def powerless():
    """Take from this process, where it is root's, the right to ignore permissions, once it runs another program."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def test_no_permission(run, planned):
    everything = [run.paths.results, *run.paths.results.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(modes[path] & ~0o222)
    try:
        if execute(["touch", str(run.paths.results / "x")], preexec_fn=powerless).returncode == 0:
            pytest.skip("nothing can be forbidden to this user")
        refused(run, execute(run.job("probe", 0), preexec_fn=powerless), "Permission denied")
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    goes_on(run, planned)


def test_results_below_a_file(run, planned):
    work = run.paths.results / "work" / "probe"
    work.write_text("in the way")
    refused(run, execute(run.job("probe", 0)))
    work.unlink()
    goes_on(run, planned)


def test_files_that_change_while_they_are_read(run, planned, tmp_path):
    """Each video is in the arrays or in the ledger, and no job dies; which of the two is a matter of luck."""
    media = tmp_path / "changing.mp4"
    source = next(planned[1].parent.glob("song*.mp4")).read_bytes()
    media.write_bytes(source)
    run = Run(
        tmp_path / "changed",
        write_table(tmp_path / "changing.parquet", [(f"v{i}", media) for i in range(40)]),
        BACKBONES,
        decoding={"failure_ratio": 1.0},
    )
    run.prepare()
    stop = threading.Event()

    def change():
        step = 0
        while not stop.wait(0.004):
            step += 1
            with open(media, "r+b") as file:
                file.truncate(len(source) * (step % 5) // 4)
                if step % 2:
                    file.write(source)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for part in run.parts:
            execute(run.job(part, 0), check=True)
    finally:
        stop.set()
        changing.join()
    for part in run.parts:
        assert set(run.outcomes(part).values()) <= {"ok", "unreadable", "decode_error", "empty_audio", "too_short",
                                                    "no_audio_stream", "no_video_stream", "out_of_memory"}  # fmt: skip


def test_clocks_may_jump(run, planned, tmp_path):
    """The wall clock leaps by decades with every look at it: same records, no deadline strikes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import random, time\n"
        "time.time = lambda: random.uniform(0, 4e9)\n"
        "time.time_ns = lambda: int(time.time() * 1e9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    for part in run.parts:
        execute(run.job(part, 0), check=True, env=environment)
    assert {part: read_json(run.paths.done(part, 0)) for part in run.parts} == planned[2]
    # Nor do time stamps of files decide what is done: a second run finds everything there, however old it looks.
    for i, path in enumerate(sorted(run.paths.results.rglob("*"))):
        os.utime(path, (i % 2 * 4e9, i % 2 * 4e9))
    for part in run.parts:
        done = execute(run.job(part, 0), check=True, env=environment)
        assert f"{VIDEOS} of them done already" in done.stderr
    goes_on(run, planned)
