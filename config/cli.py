"""The command line of every module: `--config`, logging, errors without tracebacks, signals, progress.

Reads nothing; writes only the lines of `Progress`, to the file that it is given.
"""

from __future__ import annotations

import argparse
import errno
import json
import locale
import logging
import os
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


# Errors of a disk, its permissions or a path: the user can resolve them, and a traceback would not help.
USER_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE,
}  # fmt: skip


class UserError(Exception):
    """An error that the user can resolve. Its message names the file or key and the remedy; shown without a
    traceback."""


def parser(doc: str | None, module: str, threads: str | None = None, config: bool = True) -> argparse.ArgumentParser:
    """Return a parser with `--config`, whose help is the module's docstring.

    `threads`: what `--threads N` counts; None for a module without this option. `config`: False for a module without a
    configuration.
    """
    command_line = argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if config:
        command_line.add_argument(
            "--config",
            required=True,
            metavar="FILE",
            help="the run's resolved configuration, RESULTS/config.json (the workflow writes it), or its folder",
        )
    if threads is not None:
        command_line.add_argument("--threads", type=positive, default=1, metavar="N", help=f"{threads} (default 1)")
    return command_line


def positive(text: str) -> int:
    """Parse an argument that is a number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def results_folder(text: str) -> Path:
    """Parse an argument that is a results folder; its `config.json`, which other commands take, means the folder."""
    path = Path(text)
    return path.parent if path.name == "config.json" else path


def experiment_parser(doc: str | None, module: str, several: bool = False) -> argparse.ArgumentParser:
    """Return a parser with `--config`, `--threads` and `--experiment` (with `several`: any number, default all)."""
    command_line = parser(doc, module, "cores to use")
    if several:
        command_line.add_argument(
            "--experiment", nargs="+", default=[], metavar="NAME", help="which of heads.experiments (default: all)"
        )
    else:
        command_line.add_argument("--experiment", required=True, metavar="NAME", help="which of heads.experiments")
    return command_line


def in_utf8(program: str | None = None) -> None:
    """Make this process and its children read paths, files and arguments as UTF-8, whatever the locale.

    In a locale other than UTF-8, restart the same command in Python's UTF-8 mode (PEP 540), which must be set at the
    start. `program`: restart only if this process is the program of that name, otherwise raise UserError. Sets
    PYTHONUTF8 for child processes.
    """
    is_utf8 = sys.getfilesystemencoding() == "utf-8" and locale.getpreferredencoding(False).lower() in ("utf-8", "utf8")
    restarted = os.environ.get("PYTHONUTF8") == "1"
    os.environ["PYTHONUTF8"] = "1"
    if is_utf8:
        return
    if restarted or (program is not None and program not in Path(sys.argv[0]).parts[-2:]):
        raise UserError(
            "the locale is not UTF-8, and Python was told to follow it; set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(main: Callable[[], None]) -> None:
    """Run a module's main function: log to stderr, and turn UserError into a message and exit status 2."""
    in_utf8()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            raise
        _fail(f"{error}. What was finished is kept; mend this and run the same command again.")
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    with suppress(OSError):  # the log may be on the disk that is full; the exit status remains
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


class Stopping:
    """Defer SIGTERM and Ctrl-C: inside the `with` block they only set a flag; call the object to read it.

    For work that saves its state before it ends. A second Ctrl-C interrupts at once. Main thread only.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self._signal == number:
            raise KeyboardInterrupt
        self._signal = number

    def __call__(self) -> bool:
        return self._signal is not None

    def leave(self, unfinished: str) -> None:
        """If a signal came, log what is unfinished and exit with the status that shells use: 143 for SIGTERM, 130 for
        Ctrl-C."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            # Logged, not printed: logging survives a closed stderr, whose reader the signal may also have ended.
            logging.getLogger("stop").warning(
                "stopped by %s: %s; run the same command again to go on", name, unfinished
            )
            sys.exit(128 + self._signal)


Extra = Callable[[], tuple[str, dict[str, Any]]]
"""Returns details of the progress: text for people, and the same as a JSON object."""


class Progress:
    """Shows how far work is: a bar on a terminal, otherwise a log line every `seconds`: done, rate, time left.

    `extra` adds details. With `record`, each line is also appended to that file as a JSON object. A context manager.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        seconds: float = 10.0,
        extra: Extra | None = None,
        record: Path | None = None,
    ) -> None:
        self.total, self.unit, self.seconds, self.extra, self.record = total, unit, seconds, extra, record
        self.done = 0
        self._log = logging.getLogger(what)
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", smoothing=0.1, disable=not self._terminal)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def step(self) -> None:
        """Count one item as done."""
        self.done += 1
        self._bar.update()
        self.speak(at_once=self.done == self.total)

    def speak(self, at_once: bool = False) -> None:
        """Show a line if the last one is long enough ago, also where nothing has been done since."""
        now = time.monotonic()
        if now - self._shown < self.seconds and not at_once:
            return
        self._shown = now
        rate = self.done / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else None
        text, details = self.extra() if self.extra else ("", {})
        self._bar.set_postfix_str(text)
        if not self._terminal:
            suffix = ("" if left is None else f", {clock(left)} left") + (f", {text}" if text else "")
            self._log.info("%d/%d %s, %.2f %s/s%s", self.done, self.total, self.unit, rate, self.unit, suffix)
        if self.record is not None:
            stamp = datetime.now(UTC).isoformat(timespec="seconds")
            line = {"time": stamp, "done": self.done, "total": self.total, "rate": rate, "seconds_left": left}
            self.record.parent.mkdir(parents=True, exist_ok=True)
            with open(self.record, "a", encoding="utf-8") as file:
                file.write(json.dumps(line | details) + "\n")


def progress(items: Iterable[T], total: int, what: str, unit: str) -> Iterator[T]:
    """Yield the items and show how far they are."""
    with Progress(total, what, unit) as shown:
        for item in items:
            yield item
            shown.step()


def clock(seconds: float) -> str:
    """Return seconds as text: `42 s`, `3 min 20 s`, `5 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def printable(text: str | None, most: int = 60) -> str:
    """Return a text for a terminal: without control characters, and shortened."""
    shown = "".join(character if character.isprintable() else "�" for character in text or "")
    return shown if len(shown) <= most else shown[: most - 1] + "…"
