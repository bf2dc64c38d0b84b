"""Command-line manners of every module: `--config`, logging, errors without tracebacks, progress. Writes nothing."""

from __future__ import annotations

import argparse
import errno
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NoReturn, TypeVar

from tqdm import tqdm

T = TypeVar("T")


# What a disk, its permissions or a path can be short of: the user can mend it, and a traceback helps nobody.
MENDABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE,
}  # fmt: skip


class UserError(Exception):
    """Something the user can mend: its text names the file, the key and the way out; shown without a traceback."""


def parser(doc: str | None, module: str) -> argparse.ArgumentParser:
    """A parser whose help is the module's own first paragraphs, with the `--config` that every stage takes."""
    p = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="the run's resolved configuration, RESULTS/config.json (the workflow writes it)",
    )
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


def progress(items: Iterable[T], total: int, what: str, unit: str, seconds: float = 10.0) -> Iterator[T]:
    """Yield the items, showing a bar on a terminal and otherwise a log line every `seconds`: done, rate, time left."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit=f" {unit}", smoothing=0.1)
        return
    log = logging.getLogger(what)
    start = shown = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - shown >= seconds or done == total:
            rate = done / max(now - start, 1e-9)
            log.info("%d/%d %s, %.2f %s/s, %s left", done, total, unit, rate, unit, clock((total - done) / rate))
            shown = now


def clock(seconds: float) -> str:
    """Seconds as a short human duration: `42 s`, `3 min 20 s`, `5 h 10 min`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"
