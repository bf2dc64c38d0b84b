"""Command-line manners of every module: `--config`, logging, errors without tracebacks, stopping, progress.

Reads nothing; writes nothing but the lines of `progress`, to the file it is given.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


# What a disk, its permissions or a path can be short of: the user can mend it, and a traceback helps nobody.
MENDABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE,
}  # fmt: skip


class UserError(Exception):
    """Something the user can mend: its text names the file, the key and the way out; shown without a traceback."""


def parser(doc: str | None, module: str, threads: str | None = None) -> argparse.ArgumentParser:
    """A parser whose help is the module's own first paragraphs, with the `--config` that every stage takes.

    `threads`: what `--threads N` counts; None for a module that has no use for more than one.
    """
    p = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="the run's resolved configuration, RESULTS/config.json (the workflow writes it)",
    )
    if threads is not None:
        p.add_argument("--threads", type=_positive, default=1, metavar="N", help=f"{threads} (default 1)")
    return p


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def experiment_parser(doc: str | None, module: str, several: bool = False) -> argparse.ArgumentParser:
    """A parser for what is done with an experiment: `--experiment` (with `several`: any number, default all) and
    `--threads`."""
    p = parser(doc, module, "cores to use")
    if several:
        p.add_argument(
            "--experiment", nargs="+", default=[], metavar="NAME", help="which of heads.experiments (default: all)"
        )
    else:
        p.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments")
    return p


def run(main: Callable[[], None]) -> None:
    """Run a module's main function: log to stderr, turn UserError into one message and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        _fail(f"{error}. What was finished is kept; mend this and run the same command again.")
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    with suppress(OSError):  # the log may lie on the very disk that is full; the exit status tells then
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


class Stopping:
    """SIGTERM and Ctrl-C taken as a wish: while this is open, they end nothing, and calling it says whether one came.

    For work that can put away what it has. A second Ctrl-C interrupts at once. Main thread only.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self._came == number:
            raise KeyboardInterrupt
        self._came = number

    def __call__(self) -> bool:
        return self._came is not None

    def leave(self, unfinished: str) -> None:
        """If one came, say what is unfinished and exit with the status of shells: 143 for SIGTERM, 130 for Ctrl-C."""
        if self._came is not None:
            name = signal.Signals(self._came).name
            # Logged, not printed: if the signal has also ended whoever reads stderr, that must not matter.
            logging.getLogger("stop").warning(
                "stopped by %s: %s; run the same command again to go on", name, unfinished
            )
            sys.exit(128 + self._came)


Extra = Callable[[], tuple[str, dict[str, Any]]]
"""More about the work so far: words for people, and the same as JSON for machines."""


def progress(
    items: Iterable[T],
    total: int,
    what: str,
    unit: str,
    seconds: float = 10.0,
    extra: Extra | None = None,
    record: Path | None = None,
) -> Iterator[T]:
    """Yield the items, showing a bar on a terminal and otherwise a log line every `seconds`: done, rate, time left.

    `extra` adds to it. With `record`, each line is also appended to that file as a JSON object.
    """
    log = logging.getLogger(what)
    terminal = sys.stderr.isatty()
    start = shown = time.monotonic()
    done = 0
    with tqdm(total=total, desc=what, unit=f" {unit}", smoothing=0.1, disable=not terminal) as bar:
        for item in items:
            yield item
            done += 1
            bar.update()
            now = time.monotonic()
            if now - shown < seconds and done != total:
                continue
            shown = now
            rate = done / max(now - start, 1e-9)
            left = (total - done) / rate
            words, facts = extra() if extra else ("", {})
            bar.set_postfix_str(words)
            if not terminal:
                more = f", {words}" if words else ""
                log.info("%d/%d %s, %.2f %s/s, %s left%s", done, total, unit, rate, unit, clock(left), more)
            if record is not None:
                stamp = datetime.now(UTC).isoformat(timespec="seconds")
                known = {"time": stamp, "done": done, "total": total, "rate": rate, "seconds_left": left}
                record.parent.mkdir(parents=True, exist_ok=True)
                with open(record, "a", encoding="utf-8") as file:
                    file.write(json.dumps(known | facts) + "\n")


def clock(seconds: float) -> str:
    """Seconds as a short human duration: `42 s`, `3 min 20 s`, `5 h 10 min`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"
