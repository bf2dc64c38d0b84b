"""The configuration of videos that are fetched over the network (`decoding.remote`). Reads the environment variables
that paths name; writes nothing.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from config.hosts import check_bucket, host_and_port
from config.section import PathText, Section

HTTPS_PORT, HTTP_PORT = 443, 80
_ACCESS_KEY = re.compile(r"A[A-Z]{2}A[A-Z0-9]{16}")


def authority(text: str, port: int = HTTPS_PORT) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[IPv6]:port`; `port` is the default. ValueError."""
    host, given = host_and_port(text)
    return host, port if given is None else given


def _https_host(text: str) -> str:
    if "://" in text or "*" in text or "/" in text:
        raise ValueError(
            f"{text!r} is not a host: write its name alone, such as media.example.org or media.example.org:8443, "
            "without https://, path or wildcard"
        )
    try:
        authority(text)
    except ValueError as error:
        shown = "this" if "@" in text else repr(text)
        raise ValueError(f"{shown} is not a host, or host:port: {error}") from None
    return text


def _variable(name: str) -> str:
    # The value is not repeated: somebody may have written the key itself.
    if _ACCESS_KEY.fullmatch(name) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", name):
        raise ValueError(
            "give the name of an environment variable in capital letters, such as AWS_ACCESS_KEY_ID, not a key itself"
        )
    return name


HostText = Annotated[str, AfterValidator(_https_host)]
Variable = Annotated[str, AfterValidator(_variable)]


class Bucket(Section):
    """An S3 bucket that videos may come from. Keys are read from environment variables and are written nowhere; without
    them requests are not signed (public buckets)."""

    endpoint: str | None = None
    """Address of the server, `https://host` or `https://host:port`; `http://` for one in your own network. The bucket
    is part of the path. Default: Amazon's in this region."""
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    """Region of the bucket, which is part of the signature."""
    access_key_variable: Variable | None = None
    """Name of the environment variable that holds the access key's id, such as `AWS_ACCESS_KEY_ID`."""
    secret_key_variable: Variable | None = None
    """Name of the environment variable that holds the secret key."""
    session_token_variable: Variable | None = None
    """Name of the environment variable that holds the token of temporary keys."""

    @field_validator("endpoint")
    @classmethod
    def _is_server(cls, endpoint: str | None) -> str | None:
        if endpoint is not None:
            scheme, mark, rest = endpoint.partition("://")
            if scheme not in ("https", "http") or not mark:
                raise ValueError("must be https://host, https://host:port or http://host:port")
            try:
                authority(rest)
            except ValueError as error:
                raise ValueError(f"must be https://host, https://host:port or http://host:port: {error}") from None
        return endpoint

    @model_validator(mode="after")
    def _whole_key(self) -> Bucket:
        if (self.access_key_variable is None) != (self.secret_key_variable is None):
            raise ValueError("set both access_key_variable and secret_key_variable, or none of them")
        if self.session_token_variable is not None and self.access_key_variable is None:
            raise ValueError("session_token_variable needs access_key_variable and secret_key_variable")
        return self

    @property
    def server(self) -> tuple[bool, str, int]:
        """Whether the server speaks TLS, its host and its port."""
        scheme, _, rest = (self.endpoint or f"https://s3.{self.region}.amazonaws.com").partition("://")
        secure = scheme == "https"
        return (secure, *authority(rest, HTTPS_PORT if secure else HTTP_PORT))


class Remote(Section):
    """Videos whose `path` is an `https://` or `s3://` address (docs/videos.md). Only hosts and buckets that stand here
    are asked, whatever the table says; by default none."""

    https: list[HostText] = []
    """Hosts of `https://` addresses, each as `host` or `host:port`. Redirects are followed between these hosts only."""
    s3: dict[str, Bucket] = {}
    """Buckets of `s3://bucket/key` addresses, by name."""
    largest_mb: int = Field(4096, ge=1, le=1 << 20)
    """Largest file in MiB; a larger one counts as failed (`unreadable`)."""
    deadline_seconds: float = Field(300.0, gt=0, le=1_000_000)
    """Longest time in seconds in which a file is fetched, with all tries; after it the file counts as failed
    (`timeout`)."""
    private_addresses: bool = False
    """Allow hosts in private networks and on this machine. Link-local addresses, where clouds keep the credentials of
    their machines, are never asked."""
    ca_file: PathText | None = None
    """File with certificates (PEM) of the authorities that are trusted, in place of the system's."""

    @field_validator("s3")
    @classmethod
    def _names(cls, buckets: dict[str, Bucket]) -> dict[str, Bucket]:
        for name in buckets:
            check_bucket(name)
        return buckets

    @property
    def allowed(self) -> bool:
        """Whether any address is allowed."""
        return bool(self.https or self.s3)

    @property
    def hosts(self) -> set[tuple[str, int]]:
        """Host and port of `https://` addresses that are allowed."""
        return {authority(text) for text in self.https}
