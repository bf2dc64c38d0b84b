"""The signature of a request to S3 (Signature Version 4). Reads the environment variables that a bucket's settings
name.

Keys come from these variables and from nowhere else: no profile, no metadata service. They are in no message.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime

from config.cli import UserError
from config.remote import Bucket


def keys(name: str, bucket: Bucket) -> tuple[str, str, str | None] | None:
    """Return id, secret and session token for a bucket; None if its requests are not signed.

    Raises UserError if a variable that the configuration names is not set.
    """
    if bucket.access_key_variable is None or bucket.secret_key_variable is None:
        return None
    token = bucket.session_token_variable
    return (
        _variable(name, "access_key_variable", bucket.access_key_variable),
        _variable(name, "secret_key_variable", bucket.secret_key_variable),
        None if token is None else _variable(name, "session_token_variable", token),
    )


def _variable(bucket: str, key: str, name: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise UserError(
            f"decoding.remote.s3.{bucket}.{key}: the environment variable {name} is not set where the job runs; export "
            "it (Slurm passes the environment on), or remove the keys for a public bucket"
        )
    return value


def signed(
    name: str, bucket: Bucket, target: str, headers: Iterable[tuple[str, str]], now: datetime | None = None
) -> list[tuple[str, str]]:
    """Return the headers of a GET of `target` (percent-encoded path) with those of the signature. UserError as `keys`.

    `headers` include `Host`; all of them are signed. `now`: the time of the signature; default: the clock's.
    """
    chosen = keys(name, bucket)
    if chosen is None:
        return list(headers)
    from awscrt import auth, http  # only here: most jobs sign nothing

    access, secret, token = chosen
    config = auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=auth.AwsCredentialsProvider.new_static(access, secret, token),
        region=bucket.region,
        service="s3",
        date=now or datetime.now(UTC),
        # S3 takes keys as they are: encoded once, with their doubled slashes.
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value=auth.AwsSignedBodyValue.EMPTY_SHA256,
        signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    request = http.HttpRequest("GET", target, http.HttpHeaders(list(headers)))
    return list(auth.aws_sign_request(request, config).result(10).headers)
