"""Servers on this machine for `bench.remote` and the tests: certificates, an S3 that checks signatures, a real nginx.

Writes certificates and nginx's files into the folders that it is given; reads the files that it serves.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from bench.fault_server import FaultServer, Request, wait_for
from config.remote import Remote

ACCESS, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+of=tests"
KEYS = {"TEST_ACCESS_KEY": ACCESS, "TEST_SECRET_KEY": SECRET, "TEST_TOKEN": TOKEN}
REGION = "eu-test-1"
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the tests: the file that trusts it, and what its servers on this machine use."""

    file: Path
    tls: ssl.SSLContext
    certificate: Path
    """Certificate and key of `localhost` and 127.0.0.1, PEM."""


def authority(folder: Path) -> Authority:
    """Make an authority in a folder."""
    made = trustme.CA()
    issued = made.issue_cert("localhost", "127.0.0.1", "::1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(tls)
    file, certificate = folder / "ca.pem", folder / "server.pem"
    made.cert_pem.write_to_path(file)
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    return Authority(file, tls, certificate)


def allowing(authority: Authority, *ports: int, **settings: Any) -> Remote:
    """Return settings that allow `https://localhost` at these ports."""
    usual = {"https": [f"localhost:{port}" for port in ports], "private_addresses": True}
    return Remote.model_validate(usual | {"ca_file": str(authority.file), "deadline_seconds": 20} | settings)


def verify(request: Request, region: str = REGION) -> tuple[str, bytes] | None:
    """Refuse a request whose Signature Version 4 is not that of KEYS, as S3 does; None if it is right.

    Written from the published description of the signature, without the code that signs.
    """
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), "
        r"Signature=([0-9a-f]{64})",
        request.headers.get("authorization", ""),
    )
    if not found:
        return _refusal("403", "AccessDenied")
    access, day, asked, names, signature = found.groups()
    if access != ACCESS:
        return _refusal("403", "InvalidAccessKeyId")
    if asked != region:
        return _refusal("400", "AuthorizationHeaderMalformed")
    if request.headers.get("x-amz-security-token") not in (None, TOKEN):
        return _refusal("400", "InvalidToken")
    path, _, query = request.target.partition("?")
    headers = "".join(f"{name}:{request.headers[name]}\n" for name in names.split(";"))
    canonical = [request.method, path, query, headers, names, request.headers["x-amz-content-sha256"]]
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, digest])
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return None if hmac.compare_digest(key.hex(), signature) else _refusal("403", "SignatureDoesNotMatch")


def _refusal(status: str, code: str) -> tuple[str, bytes]:
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Key>{SECRET}</Key></Error>".encode()


def bucket(port: int, **settings: Any) -> dict[str, Any]:
    """Return settings of a bucket of an S3 on this machine, with the keys of KEYS."""
    usual = {"endpoint": f"https://localhost:{port}", "region": REGION}
    usual |= {"access_key_variable": "TEST_ACCESS_KEY", "secret_key_variable": "TEST_SECRET_KEY"}
    return usual | settings


def files(folder: Path) -> Callable[[str], bytes | None]:
    """Return what answers a path with the file of that name in a folder, if there is one."""

    def content(path: str) -> bytes | None:
        file = folder / path.lstrip("/")
        return file.read_bytes() if ".." not in path and file.is_file() else None

    return content


def server(folder: Path, tls: ssl.SSLContext | None, **named: Any) -> FaultServer:
    """Return a server of the files in a folder."""
    return FaultServer(files(folder), tls, **named)


CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    types {{ video/mp4 mp4; }}
    gzip on; gzip_types video/mp4; gzip_min_length 1;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate}; ssl_certificate_key {certificate};
        root {root};
        location /old/ {{ return 301 https://localhost:{port}/; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /away/ {{ return 302 https://elsewhere.invalid/x.mp4; }}
        location /private/ {{ return 403; }}
        location /busy/ {{ return 503; }}
        location /slow/ {{ alias {root}/; limit_rate 20k; }}
    }}
}}
"""


@contextmanager
def nginx(root: Path, folder: Path, authority: Authority) -> Iterator[int]:
    """Run nginx over TLS on the files of `root`; yield its port."""
    assert NGINX
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, root=root, certificate=authority.certificate))
    with open(folder / "printed.txt", "wb") as printed:
        process = subprocess.Popen([NGINX, "-c", config, "-e", folder / "error.log"], stdout=printed, stderr=printed)
    try:
        wait_for(port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
