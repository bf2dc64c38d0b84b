"""A web server for the atlas's site, for this machine alone. Reads the site and the atlas's videos; writes nothing.

It answers GET and HEAD, on the loopback interface: files of the site, and under video/ROW the file of a video by its
row in the atlas, never one by its path, and as nothing but audio, video or plain bytes. Parts of files are served
(Range), which players need to jump. All addresses begin with a random token, because every user of this machine reaches
its loopback interface. A request whose `Host` is not this server's is refused, so that a page elsewhere cannot read it
under a name of its own that leads here (DNS rebinding); the browser is told to load nothing from any other place
(Content-Security-Policy).
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere. DuckDB runs as WebAssembly and makes functions of queries, hence the two kinds of eval."""
VIDEO = re.compile(r"/video/([0-9]{1,12})")
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
BYTES = "application/octet-stream"
TYPES = {".wasm": "application/wasm", ".js": "text/javascript", ".mkv": "video/x-matroska", ".webm": "video/webm"}


class Handler(SimpleHTTPRequestHandler):
    """Answers one request. `directory` is the site, `videos` {row: path of the video's file}; `token` is the first part
    of the addresses that are answered."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def __init__(self, *arguments: Any, directory: str, videos: Mapping[int, str], token: str) -> None:
        self._videos, self._token = videos, token
        self._left = 0
        super().__init__(*arguments, directory=directory)

    def send_head(self) -> IO[bytes] | None:  # type: ignore[override]
        """Send status and headers; return the file to be copied, at its first byte, or None."""
        server: Any = self.server
        if self.headers.get("Host", "") not in server.names:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "asked under another name than this server's")
            return None
        path, kind = self._file()
        try:
            file = open(path, "rb") if path is not None and path.is_file() else None
        except OSError:  # not ours to read, or a name that is too long
            file = None
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such file")
            return None
        size = os.fstat(file.fileno()).st_size
        span = part(self.headers.get("Range"), size)
        if span is None:
            file.close()
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        start, stop = span
        whole = (start, stop) == (0, size)
        self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
        if not whole:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        file.seek(start)
        self._left = stop - start
        return file

    def _file(self) -> tuple[Path | None, str]:
        """Return the file that is asked for, None for none, and its type."""
        try:
            token, slash, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
            if not slash or not hmac.compare_digest(token.encode(), self._token.encode()):
                return None, ""
            if found := VIDEO.fullmatch(unquote(slash + rest)):
                video = self._videos.get(int(found[1]))
                # A page or a script among the videos' files would have the rights of this site.
                kind = self.guess_type(video or "")
                return Path(video) if video else None, kind if kind.startswith(("video/", "audio/")) else BYTES
            path = Path(self.translate_path(slash + rest)).resolve()
            if path.is_dir():
                path /= "index.html"
        except (ValueError, OSError):  # no address, a null byte, a name that is too long
            return None, ""
        known = path.is_relative_to(Path(self.directory).resolve())
        return path if known else None, self.guess_type(str(path))

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override]
        """Copy what of the file was asked for; a player that has enough closes the connection."""
        with suppress(ConnectionError):
            while self._left and (block := source.read(min(self._left, 1 << 20))):
                outputfile.write(block)
                self._left -= len(block)

    def end_headers(self) -> None:
        """Add the headers of every answer."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a site of many files would fill the terminal."""


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, stop) of a file of `size` bytes by a request's Range header; None if there are no such bytes.

    Without a header, and for a header that is not one range of bytes, it is the whole file (RFC 9110, 14.2).
    """
    found = RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    if not first:  # the last so many bytes
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return 0, size
    return (start, stop) if start < stop else None


class Server(ThreadingHTTPServer):
    """A server of one site on the loopback interface; `port` 0 takes a free one. OSError if the port is taken.

    `address` is where the site is, and a secret: who has it can see all of the videos.
    """

    daemon_threads = True

    def __init__(self, site: Path, videos: Mapping[int, str], port: int = 0) -> None:
        token = secrets.token_urlsafe(16)
        super().__init__((HOST, port), partial(Handler, directory=str(site), videos=videos, token=token))
        number = self.server_address[1]
        self.names = {f"{host}:{number}" for host in (HOST, "localhost")}
        self.address = f"http://{HOST}:{number}/{token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that went away; show other errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
