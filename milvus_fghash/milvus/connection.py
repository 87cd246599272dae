"""The connection to Milvus: address and login, opening a client, and what the Milvus supports."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

import grpc

from milvus_fghash.core.environment import state_folder
from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.errors import ConfigError, StoreBusy, StoreError
from milvus_fghash.milvus.errors import LITE_GONE, is_unimplemented, milvus_call
from milvus_fghash.milvus.lite import (
    check_file,
    check_installed,
    forget_process,
    lite_path,
    no_binary_vectors,
    opening,
)
from milvus_fghash.milvus.proxies import grpc_proxy
from milvus_fghash.milvus.pymilvus_compat import MilvusClient, use_root_logging

URI_SCHEMES = ("http", "https", "tcp")


@dataclass(frozen=True)
class ConnectionConfig:
    """Address of a Milvus server or a Milvus Lite file, and how to log in. Its `repr` shows no secret.

    Attributes:
        uri: ``http://host:19530`` or ``https://...`` of a server, or the path of a Milvus Lite file, which ends in
            ``.db``. A user and password in the URI are moved to ``token``.
        token: ``user:password`` or an API key.
        db_name: database on a server; None for the default one.
        secure: use TLS. An https URI implies it.
        server_pem_path: certificate of the server, in PEM format.
        ca_pem_path: certificate of the authority that issued the server's certificate.
        client_pem_path: certificate of this client.
        client_key_path: private key of this client.
        server_name: host name that the server's certificate is issued for, if it differs from that in ``uri``.
        timeout: seconds to wait for the connection.

    Raises:
        ConfigError: if the URI or token is malformed, a certificate file does not exist, or a database is given for
            Milvus Lite.

    Examples:
        >>> ConnectionConfig("http://localhost:19530", token="user:password")
        ConnectionConfig(uri='http://localhost:19530', db_name=None, secure=False, server_pem_path=None, ...
        >>> ConnectionConfig("birds.db").is_lite
        True
    """

    uri: str = "milvus-fghash.db"
    token: str | None = field(default=None, repr=False)
    db_name: str | None = None
    secure: bool = False
    server_pem_path: Path | None = None
    ca_pem_path: Path | None = None
    client_pem_path: Path | None = None
    client_key_path: Path | None = None
    server_name: str | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        if not self.is_lite:
            self._split_uri()
        elif self.db_name:
            raise ConfigError(
                f"Milvus Lite has no databases; omit the database name {self.db_name!r}", setting="db_name"
            )
        if self.token:
            KNOWN_SECRETS.add_token(self.token)
            _check_token(self.token)
        for name in ("server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path"):
            path = getattr(self, name)
            if path and not os.path.isfile(path):  # also False for an impossible file name
                raise ConfigError(f"{name}: there is no file {path}")

    @property
    def is_lite(self) -> bool:
        """Whether this is a Milvus Lite file rather than a server."""
        return "://" not in self.uri and self.uri.endswith(".db")

    @property
    def file(self) -> Path:
        """Path of the Milvus Lite file.

        Raises:
            StoreError: if the path starts with ~ and there is no home folder.
        """
        return lite_path(self.uri)

    def _split_uri(self) -> None:
        KNOWN_SECRETS.add_url(self.uri)
        parts = _parse(self.uri)
        if parts.username is not None:
            host = parts.netloc.rpartition("@")[2]
            object.__setattr__(self, "uri", parts._replace(netloc=host).geturl())
            if not self.token:
                object.__setattr__(self, "token", f"{parts.username}:{parts.password or ''}")


@dataclass(frozen=True)
class Capabilities:
    """What a Milvus supports of the features that this project uses."""

    kind: Literal["lite", "server"]
    version: str
    index_types: tuple[str, ...]
    """For binary vectors."""
    several_vectors: bool
    """More than one vector field in a collection."""
    aliases: bool
    databases: bool
    iterators: bool
    """Search iterators over binary vectors."""
    ids_search: bool
    """Search by the primary key of a row."""
    partition_keys: bool
    """Milvus Lite accepts one, but then no filter on it."""
    keyed_upsert: bool
    """Whether upserted rows are found by their partition key."""
    bulk_import: Literal["none", "grpc", "rest"] = "none"
    """API of the bulk import."""
    import_keys: bool = False
    """Whether requesting an import again under the same key does not import the files twice."""


def journal_folder(config: ConnectionConfig, collection: str) -> Path:
    """Default folder of the journal of a collection: beside a Milvus Lite file; for a server, in the `state_folder`."""
    if config.is_lite:
        file = config.file.resolve()
        return file.with_name(f"{file.name}.journals") / collection
    parts = urlsplit(config.uri)
    where = f"{parts.hostname}:{parts.port}{parts.path} {config.db_name or ''}"
    digest = hashlib.blake2b(where.encode(), digest_size=6).hexdigest()
    return state_folder() / f"{parts.hostname}-{digest}" / collection


KEEPALIVE_OPTIONS: Final = {"grpc.keepalive_time_ms": 3_600_000}
"""pymilvus pings every 10 s, which the server of Milvus Lite eventually punishes by closing the connection."""


def connect(config: ConnectionConfig, *, may_create: bool = True) -> MilvusClient:
    """Open a client.

    Args:
        config: the server or file. An attempt to reach a server ends after ``config.timeout`` seconds.
        may_create: whether to create a Milvus Lite file that does not exist. Only for commands that write: a mistyped
            name must not look like an empty catalog.

    Raises:
        MissingExtra: if a file is given and Milvus Lite is not installed.
        StoreError: if the server cannot be reached, or the file not opened.
    """
    if config.is_lite and not may_create and not Path(config.uri).expanduser().exists():
        raise StoreError(
            f"there is no Milvus Lite file {config.uri}; ingest creates one, or give another", setting="uri"
        )
    use_root_logging()
    given = {one.name: getattr(config, one.name) for one in fields(config)}
    options: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value
    }
    if not config.is_lite:
        try:
            with milvus_call(f"cannot connect to {config.uri}"):
                return MilvusClient(**options)
        except StoreBusy as error:
            if proxy := grpc_proxy(urlsplit(config.uri).hostname or ""):
                raise StoreBusy(f"{error}. {proxy}", setting=error.setting) from error
            raise
    path = check_file(config.uri)
    check_installed()
    try:
        return _open_lite(path, config.timeout)
    except StoreError as error:
        if not LITE_GONE.search(str(error)):
            raise
    # Its process ended on start, or long ago: other programs that use Milvus Lite delete its cache (milvus-lite#305).
    forget_process(path)
    return _open_lite(path, config.timeout)


def _open_lite(path: Path, timeout: float) -> MilvusClient:
    with opening(path), milvus_call(f"cannot open {path}"):
        return MilvusClient(str(path), timeout=timeout, grpc_options=KEEPALIVE_OPTIONS)


def probe(client: MilvusClient) -> Capabilities:
    """What this Milvus supports, derived from its version.

    Raises:
        StoreError: if Milvus does not answer.
    """
    with milvus_call("cannot get the version of Milvus"):
        try:
            version = str(client.get_server_version(timeout=10))
        except grpc.RpcError as error:
            if not is_unimplemented(error):
                raise
            return Capabilities(
                "lite", metadata.version("milvus-lite"), ("BIN_FLAT",), True, False, False, True, False, False, False
            )
    if version.startswith("milvus_lite"):
        raise StoreError(no_binary_vectors(version))
    at = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return Capabilities(
        kind="server",
        version=version,
        index_types=("BIN_FLAT", "BIN_IVF_FLAT"),
        several_vectors=at >= (2, 4),
        aliases=True,
        databases=at >= (2, 2, 9),
        iterators=at >= (2, 6, 8),  # earlier ones fail on binary vectors (milvus#46339)
        ids_search=at >= (2, 6, 9),
        partition_keys=at >= (2, 2, 9),
        keyed_upsert=at >= (2, 4),  # earlier ones took the partition from another field (milvus#30607)
        bulk_import="rest" if at >= (2, 4) else "grpc",
        import_keys=(2, 6, 24) <= at < (3,) or at >= (3, 0, 2),
    )


def _parse(uri: str) -> SplitResult:
    """Parse the URI of a server. The error shows no part of it, since it may contain a password."""
    with suppress(ValueError):
        parts = urlsplit(uri)
        plain = not (parts.query or parts.fragment)  # pymilvus would ignore these
        if parts.scheme in URI_SCHEMES and parts.hostname and parts.port != 0 and plain:
            return parts
    raise ConfigError(
        "the Milvus URI must be http(s)://host:port, or the path of a Milvus Lite file that ends in .db; a URI "
        "must not have a query (?) or fragment (#)"
    )


def _check_token(token: str) -> None:
    user, colon, password = token.partition(":")
    if not token.isprintable() or token != token.strip():
        problem = "it contains a control character, or starts or ends with a space"
    elif colon and not (user and password):
        problem = "the user or the password is empty"
    elif not colon and " " in token:
        problem = "an API key contains no spaces"
    else:
        return
    raise ConfigError(f"invalid token: {problem}; expected user:password or an API key")
