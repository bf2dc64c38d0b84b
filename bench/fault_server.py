"""A web server that answers as servers and networks do when they fail, for `bench.remote` and the tests.

Reads the files that it is given; writes nothing. Listens on this machine only. Each request for a path takes the next
fault that is planned for it; without one it is answered right, ranges included.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

PIECE = 1 << 16
HELD = 60.0
"""Seconds for which a silent server keeps a connection."""
STATUSES = {
    "400": "Bad Request", "401": "Unauthorized", "403": "Forbidden", "404": "Not Found", "408": "Request Timeout",
    "410": "Gone", "418": "I'm a teapot", "429": "Too Many Requests", "500": "Internal Server Error",
    "502": "Bad Gateway", "503": "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A request: method, path with parameters as it came, headers with names in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The path without parameters, decoded."""
        return unquote(self.target.partition("?")[0])


@dataclass
class FaultServer:
    """The server. `content` returns a path's bytes, or None. Use as a context manager.

    `faults`: by path, what goes wrong with the first request, the second and so on: a status; `FAULTS`; or
    `redirect ADDRESS`. `tls`: None for plain HTTP. `authorise` returns a status and a body to refuse a request with.
    """

    content: Callable[[str], bytes | None]
    tls: ssl.SSLContext | None = None
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    authorise: Callable[[Request], tuple[str, bytes] | None] | None = None
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> FaultServer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def asked(self, path: str) -> list[Request]:
        """Return the requests for a path so far."""
        return [request for request in self.requests if request.path == path]

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(HELD)
        with suppress(OSError, ValueError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            request = _read(connection)
            with self._lock:
                self.requests.append(request)
                planned = self.faults.get(request.path, [])
                fault = planned.pop(0) if planned else ""
            self._answer(connection, request, fault)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _answer(self, connection: socket.socket, request: Request, fault: str) -> None:
        refused = self.authorise(request) if self.authorise else None
        data = self.content(request.path)
        kind, _, detail = fault.partition(" ")
        if refused is not None:
            _send(connection, *refused)
        elif kind in STATUSES:
            _send(connection, kind, b"no", [f"Retry-After: {detail}"] if detail else [])
        elif kind == "redirect":
            _send(connection, "302", b"", [f"Location: {detail}"])
        elif data is None:
            _send(connection, "404", b"")
        elif kind:
            FAULTS[kind](connection, request, data, self._closed)
        else:
            _right(connection, request, data)


def _read(connection: socket.socket) -> Request:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(PIECE)
        if not piece:
            raise ValueError("no request")
        head += piece
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, {name.lower(): value.strip() for name, _, value in pairs})


def etag_of(data: bytes) -> str:
    """Return the ETag of a content."""
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _send(connection: socket.socket, status: str, body: bytes, headers: list[str] | None = None) -> None:
    lines = [f"HTTP/1.1 {status} {STATUSES.get(status, 'OK')}", f"Content-Length: {len(body)}", *(headers or [])]
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def _part(request: Request, data: bytes) -> tuple[int, int] | None:
    """Return first and last byte that are asked for; None for all."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not found or request.headers.get("if-range", etag_of(data)) != etag_of(data) or int(found[1]) >= len(data):
        return None
    return int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)


def _head(request: Request, data: bytes, total: int | None = None, etag: str | None = None) -> tuple[bytes, bytes]:
    """Return the head of a right answer and its body; `total` and `etag` are what is said in place of the truth."""
    part = _part(request, data)
    first, last = part or (0, len(data) - 1)
    size = len(data) if total is None else total
    lines = ["HTTP/1.1 206 Partial Content" if part else "HTTP/1.1 200 OK", "Accept-Ranges: bytes"]
    lines += [f"ETag: {etag or etag_of(data)}", f"Content-Length: {last - first + 1 + size - len(data)}"]
    lines += [f"Content-Range: bytes {first}-{last}/{size}"] if part else []
    return "\r\n".join([*lines, "", ""]).encode(), data[first : last + 1]


def _right(connection: socket.socket, request: Request, data: bytes) -> None:
    head, body = _head(request, data)
    connection.sendall(head)
    connection.sendall(body)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


Fault = Callable[[socket.socket, Request, bytes, threading.Event], None]


def _cut(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    head, body = _head(request, data)
    connection.sendall(head + body[: len(body) // 2])


def _cut_by_reset(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _cut(connection, request, data, closed)
    _reset(connection)


def _cut_without_etag(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])


def _reset_at_once(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _reset(connection)


def _silent(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    closed.wait(HELD)


def _stall(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _cut(connection, request, data, closed)
    closed.wait(HELD)


def _dripping(pieces: Iterator[bytes], connection: socket.socket, closed: threading.Event) -> None:
    for piece in pieces:
        connection.sendall(piece)
        if closed.wait(0.05):
            return


def _drip_head(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    _dripping((b"x" for _ in range(1200)), connection, closed)


def _drip_body(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    head, body = _head(request, data)
    connection.sendall(head)
    _dripping((body[i : i + 1] for i in range(1200)), connection, closed)


def _short(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    """Send half of the file, and a length that says that it is all."""
    half = data[: len(data) // 2]
    _send(connection, "200", half, [f"ETag: {etag_of(data)}"])


def _long(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    """Send all of the file, and a length that says that more comes."""
    head, body = _head(request, data, total=len(data) + 1000)
    connection.sendall(head + body)


def _packed(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _send(connection, "200", gzip.compress(data, 1), ["Content-Encoding: gzip"])


def _chunked(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")


def _no_length(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + data)


def _two_lengths(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


def _login(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _send(connection, "200", b"<!doctype html><title>Please log in</title>", ["Content-Type: text/html"])


def _another(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    """Send a file of the same size with another middle."""
    middle = len(data) // 2
    _right(connection, request, data[:middle] + bytes(64) + data[middle + 64 :])


def _changed(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    """Send the part that is asked for, of a file that has become another, whatever the request says of it."""
    part = Request(
        request.method, request.target, {name: value for name, value in request.headers.items() if name != "if-range"}
    )
    head, body = _head(part, data, etag='"another"')
    connection.sendall(head + bytes(len(body)))


def _wrong_part(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    """Send the beginning, though the end was asked for."""
    lines = ["HTTP/1.1 206 Partial Content", f"Content-Range: bytes 0-999/{len(data)}", f"ETag: {etag_of(data)}"]
    connection.sendall("\r\n".join([*lines, "Content-Length: 1000", "", ""]).encode() + data[:1000])


def _no_ranges(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _send(connection, "200", data, [f"ETag: {etag_of(data)}"])


def _garbage(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"\x00\x01\x02 this is not HTTP\r\n\r\n" + data[:1000])


def _many_headers(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % i for i in range(5000)) + b"\r\n" + data)


def _early_hints(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Length: 7\r\n\r\n")
    _right(connection, request, data)


def _hints_alone(connection: socket.socket, request: Request, data: bytes, closed: threading.Event) -> None:
    _dripping((b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 for _ in range(1200)), connection, closed)


FAULTS: dict[str, Fault] = {
    "early-hints": _early_hints,
    "hints-alone": _hints_alone,
    "cut": _cut,
    "cut-by-reset": _cut_by_reset,
    "cut-without-etag": _cut_without_etag,
    "reset": _reset_at_once,
    "silent": _silent,
    "stall": _stall,
    "drip-head": _drip_head,
    "drip-body": _drip_body,
    "short": _short,
    "long": _long,
    "packed": _packed,
    "chunked": _chunked,
    "no-length": _no_length,
    "two-lengths": _two_lengths,
    "login": _login,
    "another": _another,
    "changed": _changed,
    "wrong-part": _wrong_part,
    "no-ranges": _no_ranges,
    "garbage": _garbage,
    "many-headers": _many_headers,
}


def wait_for(port: int, seconds: float = 10.0) -> None:
    """Wait until somebody listens on a port of this machine. TimeoutError if nobody does."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise TimeoutError(f"nobody listens on port {port}") from None
            time.sleep(0.02)
