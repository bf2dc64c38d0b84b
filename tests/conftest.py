"""Fixtures that several test files share: a small demo run once, a copy of it to change, and videos of every kind.

Marks every test as one of KINDS: `slurm` by its folder, `workflow` by its folder, its fixtures or a mark of its own,
`unit` otherwise.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.threads import wait_briefly
from heads.metrics import METRICS
from tests.support.commands import ROOT
from tests.support.library import Files, maker
from tests.support.workflow import COUNT, SHARD, VIDEOS, snakemake

wait_briefly()  # before any test loads PyTorch
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}")

KINDS = ("unit", "workflow", "slurm")
RUNS = {"demo", "copied"}
"""Fixtures that run Snakemake."""


CHECKOUT = pytest.StashKey[dict[Path, tuple[int, int]]]()


def checkout() -> dict[Path, tuple[int, int]]:
    """Return the size and the time of change, in ns, of every file of the checkout but caches and results."""
    files = {}
    for folder, folders, names in os.walk(ROOT):
        ignored = {"__pycache__", "results"} if Path(folder) == ROOT else {"__pycache__"}
        folders[:] = [name for name in folders if name not in ignored and not name.startswith(".")]
        for name in names:
            status = (path := Path(folder, name)).lstat()
            files[path] = (status.st_size, status.st_mtime_ns)
    return files


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[CHECKOUT] = checkout()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in which a file of the checkout was written, made or deleted, by a test or by a person."""
    changed = {path for path, _ in session.config.stash[CHECKOUT].items() ^ checkout().items()}
    if changed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        names = ", ".join(sorted(str(path.relative_to(ROOT)) for path in changed))
        print(f"\nFiles of the checkout changed while the tests ran: {names}")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist's own hook, which writes a group into a test's name, comes after it
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test as exactly one of KINDS, and those that one process of pytest-xdist should run together.

    The groups that take longest come first, so that the two processes end at about the same time.
    """
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        runs_demo = bool(RUNS & set(getattr(item, "fixturenames", ())))
        marked = {mark.name for mark in item.iter_markers() if mark.name in KINDS}
        if folder in ("workflow", "slurm"):
            kinds = marked | {folder}
        elif runs_demo:
            kinds = marked | {"workflow"}
        else:
            kinds = marked or {"unit"}
        if len(kinds) > 1:
            raise pytest.UsageError(f"{item.nodeid} is marked as {' and '.join(sorted(kinds))}; one is possible")
        item.add_marker(*kinds)
        # What two processes share would be made twice, and a second Slurm would be in the first one's way.
        if folder == "slurm":
            together = "slurm"
        elif runs_demo:
            together = "demo"
        elif "report_folder" in getattr(item, "fixturenames", ()):
            together = "report"
        else:
            together = str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(together))
    items.sort(key=turn)


def turn(item: pytest.Item) -> int:
    """Return the place of a test's group: Slurm's tests, those of the demo, other runs of Snakemake, all the rest."""
    marks = {mark.name for mark in item.iter_markers() if mark.name in KINDS}
    if "slurm" in marks:
        return 0
    if "workflow" not in marks:
        return 3
    return 1 if RUNS & set(getattr(item, "fixturenames", ())) else 2


@pytest.fixture(autouse=True)
def metrics_stay() -> Iterator[None]:
    """Fail a test that leaves METRICS changed: with another order, tests that run after it fail without a reason."""
    before = list(METRICS.items())
    yield
    assert list(METRICS.items()) == before


@pytest.fixture(autouse=True)
def environment_stays() -> Iterator[None]:
    """Fail a test that leaves an environment variable changed, for the same reason (monkeypatch takes it back)."""
    before = environment()
    yield
    assert environment() == before


OF_THE_PROCESS = {"PYTEST_CURRENT_TEST", "CUBLAS_WORKSPACE_CONFIG", "PATH", "TORCHINDUCTOR_CACHE_DIR"}
"""Variables that pytest, a training and the imports of decord and transformers set for the whole process."""


def environment() -> dict[str, str]:
    """Return the environment variables that only a test changes."""
    return {name: value for name, value in os.environ.items() if name not in OF_THE_PROCESS}


@pytest.fixture(autouse=True)
def scheduling_stays() -> Iterator[None]:
    """Fail a test that leaves this process real-time: it and all that it starts would take the machine from others."""
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    after = os.sched_getscheduler(0)
    os.sched_setscheduler(0, before, parameters)
    assert after == before, "use config.processes.usual_scheduling where an encoder is opened"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo, run once from nothing: (folder, configuration)."""
    folder = tmp_path_factory.mktemp("demo")
    config = {
        "results": str(folder / "results"),
        "render": {"videos": VIDEOS, "seconds": [7.0, 9.0]},
        "shard_videos": SHARD,
        "segments": {"count": COUNT, "seconds": 3.0, "window": 3.2},
        "splits": {"train": 0.4, "validation": 0.2, "test": 0.4},
        "backbones": {
            "musicnn": {"weights": "wheel"},
            "r2plus1d": {"weights": "random", "options": {"fps": 1.0}},
        },
        "heads": {"experiments": {"baseline": {"max_epochs": 4, "batch": 16}}},
        "probes": {"hidden": [16], "max_epochs": 3},
        "eval": {"bootstrap": 100},
    }
    printed = snakemake(folder, config)
    (folder / "printed.txt").write_text(printed)
    return folder, config


@pytest.fixture
def copied(demo, tmp_path):
    """A copy of the finished demo's audio side, free to be changed: (folder, configuration)."""
    folder, config = demo
    shutil.copytree(folder / "results" / "rendered", tmp_path / "media")
    weights = str(folder / "results" / "weights" / "musicnn.safetensors")
    config = {k: v for k, v in config.items() if k != "render"} | {
        "results": str(tmp_path / "results"),
        "videos": str(tmp_path / "media" / "videos.csv"),
        "backbones": {"musicnn": {"weights": weights}},
        "heads": {"audio": "musicnn", "video": "musicnn"},
    }
    return tmp_path, config


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A function that makes a file of tests/support/library.py, once, and returns its path."""
    return maker(tmp_path_factory.mktemp("videos"))
