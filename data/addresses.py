"""Which addresses of videos (`https://`, `s3://`) may be asked. Asks nobody, reads nothing.

That is the configuration's decision (`decoding.remote`), never the table's. How an address is read: data/places.py.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import unquote_plus

from config.remote import HTTPS_PORT, Remote
from data.places import Address, parse

log = logging.getLogger("manifest")

SHOWN = 5
"""Reasons in a warning."""
SECRETS = {"sig", "hdnts", "hdnea", "hdntl", "hmac", "jwt", "pwd"}
SECRET_ENDS = (
    "signature", "credential", "token", "secret", "password", "passwd", "apikey", "accesskey", "accesskeyid", "authkey",
)  # fmt: skip
"""Parameters of an address that let in whoever has it, and ends of their names, in small letters without `-` and `_`:
of the clouds' signatures, of content networks' tokens. They would stand in the manifest and in failures.csv."""
_NAMES = re.compile(r"[/?&;]([^/?&;=]+)=")
LONGEST, LONGEST_KEY = 8000, 1024
"""Characters of an address, which servers take no longer, and bytes of a key of S3."""


def server(address: Address) -> str:
    """Return an address without what comes after its host and port, or its bucket."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = "" if address.port in (None, HTTPS_PORT) else f":{address.port}"
    return f"{address.scheme}://{host}{port}"


def refusal(address: Address, settings: Remote, redirected: bool = False) -> str | None:
    """Say why an address must not be asked; None if it may. `redirected`: it is a server's, so it may hold a secret."""
    if address.scheme not in ("https", "s3"):
        return f"the protocol '{address.scheme}' is not allowed; https and s3 are"
    if len(address.target) > LONGEST:
        return f"the address is longer than {LONGEST:,} characters"
    if address.scheme == "s3":
        allowed, key = address.host in settings.s3, "decoding.remote.s3"
    else:
        allowed, key = (address.host, address.port or HTTPS_PORT) in settings.hosts, "decoding.remote.https"
    if not allowed:
        return f"{server(address)} is not in {key}"
    if address.scheme == "s3":
        return _wrong_key(address.target)
    return None if redirected else secret(address)


def _wrong_key(key: str) -> str | None:
    if {".", ".."} & set(key.split("/")):
        return "the key has '.' or '..' between slashes, which a server may take for another bucket"
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "the key is not UTF-8"
    return f"the key is longer than {LONGEST_KEY:,} bytes" if size > LONGEST_KEY else None


def secret(address: Address) -> str | None:
    """Say that an address has a parameter, in its query or its path, that is secret; None if it has none."""
    if address.scheme == "s3":  # a key, in which these characters mean nothing
        return None
    for name in map(unquote_plus, _NAMES.findall(address.target)):
        plain = re.sub("[-_]", "", name.lower())
        if plain in SECRETS or plain.endswith(SECRET_ENDS):
            return (
                f"the address holds a secret ('{name.lower()[:40]}'), which would stand in the manifest; use s3:// "
                "with keys in the environment, or an address without"
            )
    return None


def refused(texts: Iterable[str], settings: Remote) -> Counter[str]:
    """Count the addresses among the paths of a table that will not be asked, by the reason for it."""
    counts: Counter[str] = Counter()
    for text in texts:
        if "://" in text and isinstance(place := parse(text), Address) and (why := refusal(place, settings)):
            counts[why] += 1
    return counts


def warn_of_refused(texts: Iterable[str], settings: Remote) -> None:
    """Log how many addresses of a table will not be asked, and which key would allow them."""
    counts = refused(texts, settings)
    shown = dict(counts.most_common(SHOWN))
    for why, count in shown.items():
        log.warning("%d videos will be `missing`: %s", count, why)
    if len(counts) > SHOWN:
        rest = counts.total() - sum(shown.values())
        log.warning("… and %d more videos will be `missing`, for %d other reasons", rest, len(counts) - SHOWN)
