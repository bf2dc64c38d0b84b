"""Jobs whose videos are on the network: the same features to the byte, failures in the ledger, nothing left behind."""

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.light import NAMES
from bench.remote_servers import ACCESS, KEYS, SECRET, TOKEN, allowing, authority, bucket, server, verify
from bench.runs import Run
from config.pipeline import Decoding
from pipeline.access import Access
from pipeline.retry import forget
from pipeline.workers import Pool, Task
from tests.support.collection import film
from tests.support.commands import execute, finish, start

pytestmark = pytest.mark.workflow

FILMS = 6
SEGMENTS = {"count": 2, "seconds": 3.0, "window": 3.2}
BACKBONES = {name: {"weights": "random"} for name in NAMES}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for i in range(FILMS):
        film(folder / f"v{i}.mp4", i, 7.0)
    (folder / "broken.mp4").write_bytes(b"no film")
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def web(films, certificates):
    with server(films, certificates.tls, faults=defaultdict(list)) as running:
        yield running


@pytest.fixture
def s3(films, certificates, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with server(films, certificates.tls, faults=defaultdict(list), authorise=verify) as running:
        content = running.content
        running.content = lambda path: content(path.removeprefix("/clips")) if path.startswith("/clips/") else None
        yield running


def table(path, places, **columns):
    ids = [f"v{i}" for i in range(len(places))]
    pq.write_table(pa.table({"video_id": ids, "path": [str(place) for place in places], **columns}), path)
    return path


def run_of(folder, places, remote=None, backbones=BACKBONES, **decoding):
    if remote is not None:
        decoding["remote"] = remote.model_dump(mode="json")
    settings = {"segments": SEGMENTS, "decoding": decoding}
    run = Run(folder / "results", table(folder / "videos.parquet", places), backbones, **settings)
    run.prepare()
    return run


def extract(run):
    for (part, _), ended in run.extract(60).items():
        assert ended.status == 0, (part, ended.text)
    return {part: (run.outcomes(part), run.features(part)) for part in run.parts}


def urls(web, names):
    return [f"https://localhost:{web.port}/{name}.mp4" for name in names]


@pytest.mark.parametrize("how", [{"video": "pyav"}, {"video": "decord"}, {"staging": "$SCRATCH"}])
def test_the_same_to_the_byte(tmp_path, films, web, s3, certificates, monkeypatch, how):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    names = [*(f"v{i}" for i in range(FILMS)), "broken", "nothing"]
    for folder in ("local", "remote"):
        (tmp_path / folder).mkdir()
    s3.faults["/clips/v3.mp4"] = ["cut", "503 0"]
    web.faults["/v0.mp4"] = ["cut-by-reset", "cut"]
    remote = allowing(certificates, web.port, s3={"clips": bucket(s3.port, session_token_variable="TEST_TOKEN")})
    places = [*urls(web, names[:3]), *(f"s3://clips/{name}.mp4" for name in names[3:])]
    found = extract(run_of(tmp_path / "remote", places, remote, **how))
    wanted = extract(run_of(tmp_path / "local", [films / f"{name}.mp4" for name in names], **how))
    assert found == wanted
    assert found["light"][0] == {**{f"v{i}": "ok" for i in range(FILMS)}, "v6": "unreadable", "v7": "missing"}
    assert not list((tmp_path / "scratch").iterdir())
    secrets = [word.encode() for word in (ACCESS, SECRET, TOKEN)]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 20 and not [file for file in files if any(word in file.read_bytes() for word in secrets)]


def test_keyframes_and_clips(tmp_path, films, web, certificates):
    remote = allowing(certificates, web.port)
    settings = Decoding(remote=remote)
    tasks = []
    for number, place in enumerate([str(films / "v1.mp4"), *urls(web, ["v1"])]):
        tasks.append(Task(number, "pipeline.readers.container:probe", {"path": place, "sha256": None}))
        out = {"start": 1.0, "seconds": 3.0, "out": str(tmp_path / str(number)), "decoder": "pyav"}
        tasks.append(Task(number, "eval.report.clip:clip", {"path": place, **out}))
    with Pool(1, settings) as pool:
        (_, here), (_, size), (_, there), (_, same) = pool.results(tasks, ahead=0)
    assert here == there and size == same
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "1.mp4").read_bytes()


def test_failures_are_in_the_ledger_and_tried_again(tmp_path, films, web, certificates, monkeypatch):
    web.faults["/v1.mp4"] = ["500"] * 9
    web.faults["/v2.mp4"] = ["drip-body"] * 9
    web.faults["/v3.mp4"] = ["404"]
    places = [*urls(web, ["v0", "v1", "v2", "v3", "v4"]), "https://evil.invalid/a.mp4", "s3://bucket/b.mp4"]
    run = run_of(
        tmp_path,
        places,
        allowing(certificates, web.port, deadline_seconds=12),
        backbones={"light": {"weights": "random"}},
    )
    found = extract(run)["light"][0]
    failed = {"v1": "network", "v2": "timeout", "v3": "missing", "v5": "missing", "v6": "missing"}
    assert found == {"v0": "ok", "v4": "ok"} | failed
    record = run.record("light", 0)
    said = {failure.video_id: failure.message for failure in record.failures}
    assert "answers 500 (5 tries)" in said["v1"] and "decoding.remote.deadline_seconds" in said["v2"]
    assert said["v5"] == "https://evil.invalid is not in decoding.remote.https"
    web.faults.clear()
    forget(run.paths, run.plan, ["network", "timeout"])
    before = run.features("light")
    again = extract(run)
    assert again["light"][0] == found | {"v1": "ok", "v2": "ok"}
    assert [again["light"][1][f"v{i}"] == before[f"v{i}"] for i in (0, 4)] == [True, True]


def test_by_default_no_address_is_asked_and_the_manifest_warns(tmp_path, films, web):
    places = [*urls(web, ["v0", "v1"]), films / "v2.mp4"]
    run = run_of(tmp_path, places, backbones={"light": {"weights": "random"}})
    done = execute(run.command("data.manifest"), check=True)
    assert f"2 videos will be `missing`: https://localhost:{web.port} is not in decoding.remote.https" in done.stderr
    assert extract(run)["light"][0] == {"v0": "missing", "v1": "missing", "v2": "ok"}
    assert not web.requests


def test_a_digest_that_is_wrong(tmp_path, films, web, certificates):
    digest = hashlib.sha256((films / "v0.mp4").read_bytes()).hexdigest()
    web.faults["/v0.mp4"] = ["short", "", "login", "", "another", ""]
    run = run_of(tmp_path, urls(web, ["v0", "v1"]), allowing(certificates, web.port), backbones=BACKBONES)
    table(tmp_path / "videos.parquet", urls(web, ["v0", "v1"]), sha256=[digest, digest])
    run.prepare()
    found = extract(run)
    assert {part: outcomes for part, (outcomes, _) in found.items()} == dict.fromkeys(
        run.parts, {"v0": "ok", "v1": "unreadable"}
    )


def test_a_network_that_goes_down_stops_the_job(tmp_path, films, web, certificates):
    places = [f"https://localhost:{web.port}/v{i % FILMS}.mp4?{i}" for i in range(30)]
    run = run_of(tmp_path, places, allowing(certificates, web.port, deadline_seconds=1))
    for number in range(1, FILMS):
        web.faults[f"/v{number}.mp4"] = [""] + ["reset"] * 400
    web.faults["/v0.mp4"] = ["", "", *["reset"] * 400]  # the first request of a job, and one video
    done = execute(run.job("probe", 0))
    assert done.returncode == 2, done.stderr
    assert "20 videos in a row could not be fetched" in done.stderr and "Traceback" not in done.stderr
    web.faults.clear()
    execute(run.job("probe", 0), check=True)
    record = run.record("probe", 0)
    assert record.valid == 30 and not record.failures
    web.faults.update({f"/v{number}.mp4": ["403"] * 90 for number in range(FILMS)})
    both = [*run.command("pipeline.extract", "--shard", "0"), *(f"--backbone={name}" for name in ("light",))]
    done = execute(both)
    assert done.returncode == 2 and "5 of this job's 30 videos from there were asked for" in done.stderr
    web.faults.clear()
    assert set(extract(run)["light"][0].values()) == {"ok"}


def test_a_full_disk_is_the_jobs_error(tmp_path, films, web, certificates):
    where = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(where)]
    if os.geteuid() != 0 or shutil.which("mount") is None or execute(mount).returncode:
        where.rmdir()
        pytest.skip("needs the right to mount a tmpfs")
    try:
        run = run_of(tmp_path, urls(web, ["v0", "v1"]), allowing(certificates, web.port), staging=str(where))
        done = execute(run.job("probe", 0))
    finally:
        execute(["umount", "--lazy", str(where)])
        where.rmdir()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"{where}: a fetched video cannot be written there: No space left on device" in done.stderr


def test_nothing_is_left_after_a_kill(tmp_path, films, web, certificates):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    web.faults["/v1.mp4"] = ["stall"] * 3
    run = run_of(tmp_path, urls(web, ["v0", "v1"]), allowing(certificates, web.port), staging=str(scratch))
    job = start(run.job("probe", 0))
    end = time.monotonic() + 60
    while len(web.asked("/v1.mp4")) < 1:
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.3)  # half of it is on the disk
    job.send_signal(signal.SIGKILL)
    finish(job, 60)
    assert not list(scratch.iterdir())
    web.faults.clear()
    assert set(extract(run)["light_video"][0].values()) == {"ok"}
    assert not list(scratch.iterdir())


def test_files_without_names_where_the_disk_knows_none(tmp_path, films, web, certificates, monkeypatch):
    import pipeline.remote.fetching as fetching
    from data.places import parse

    opening = os.open

    def refusing(path, flags, *more, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opening(path, flags, *more, **named)

    monkeypatch.setattr(fetching.os, "open", refusing)
    settings = allowing(certificates, web.port).model_dump_json()
    (url,) = urls(web, ["v0"])
    with fetching.fetched(parse(url), settings, str(tmp_path)) as path:
        assert not list(tmp_path.iterdir())
        assert Path(path).read_bytes() == (films / "v0.mp4").read_bytes()


def test_what_a_decoding_process_is_told(certificates, monkeypatch):
    monkeypatch.setenv("SCRATCH", "/fast")
    assert Access.of(Decoding()) == Access()
    settings = Decoding(remote=allowing(certificates, 9), staging="$SCRATCH/x")
    told = Access.of(settings)
    assert told.scratch == "/fast/x" and told.staging is None and "localhost:9" in told.remote
    assert Access.of(settings, staging="/fast/x/staged-1").scratch == "/fast/x/staged-1"


def test_too_many_that_could_not_be_fetched(tmp_path, films, web, certificates):
    """Where the network fails for more than half of the videos, though not in a row, nothing is noted as failed."""
    places = urls(web, [f"v{i % FILMS}" for i in range(20)])
    for number in range(FILMS):
        web.faults[f"/v{number}.mp4"] = [""] * (number in (0, 3)) + ["503 3600"] * (9 if number not in (0, 3) else 0)
    run = run_of(tmp_path, places, allowing(certificates, web.port))
    done = execute(run.job("probe", 0))
    assert done.returncode == 2 and "(network 13), more than decoding.failure_ratio = 0.5 allows" in done.stderr
    web.faults.clear()
    assert set(extract(run)["light"][0].values()) == {"ok"}


def test_backbones_of_one_pass_ask_once(tmp_path, films, web, certificates):
    light = {"weights": "random", "kind": "light_video"}
    backbones = {"light_video": {"weights": "random"}, "fast": light | {"options": {"fps": 5.0}}}
    run = run_of(tmp_path, urls(web, ["v0", "v1", "v2"]), allowing(certificates, web.port), backbones=backbones)
    assert run.plan.passes == [["light_video", "fast"]]
    assert run.watch("probe", 0, 60).status == 0
    web.requests.clear()
    web.faults["/v1.mp4"] = ["404"]
    together = [argument for name in backbones for argument in ("--backbone", name)]
    execute(run.command("pipeline.extract", "--shard", "0", *together), check=True)
    for name in backbones:
        assert run.outcomes(name) == {"v0": "ok", "v1": "missing", "v2": "ok"}
    assert [len(web.asked(f"/v{i}.mp4")) for i in range(3)] == [2, 1, 1]  # the first one also before the job begins
