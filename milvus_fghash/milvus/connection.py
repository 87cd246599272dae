"""Where Milvus is, how to log in, and which Milvus can do what."""

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

from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.core.state_folder import state_folder
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
from milvus_fghash.milvus.pymilvus_compat import MilvusClient, log_like_others

URI_SCHEMES = ("http", "https", "tcp")


@dataclass(frozen=True)
class ConnectionConfig:
    """A Milvus server, or a file of Milvus Lite. Passwords are never part of its text.

    Raises:
        ConfigError: when the URI or the token cannot be right, or a certificate is not there.
    """

    uri: str = "milvus-fghash.db"
    """http://host:19530, https://..., or the path of a file that ends in .db."""
    token: str | None = field(default=None, repr=False)
    """user:password or an API key. One inside the URI is moved here."""
    db_name: str | None = None
    secure: bool = False
    """TLS; an https URI means it anyway."""
    server_pem_path: Path | None = None
    ca_pem_path: Path | None = None
    client_pem_path: Path | None = None
    client_key_path: Path | None = None
    server_name: str | None = None
    """Name the server's certificate is issued to."""
    timeout: float = 10.0
    """Seconds to wait for the connection."""

    def __post_init__(self) -> None:
        if not self.is_lite:
            self._split_uri()
        elif self.db_name:
            raise ConfigError(f"Milvus Lite has no databases; leave out the database name {self.db_name!r}")
        if self.token:
            KNOWN_SECRETS.add_token(self.token)
            _check_token(self.token)
        for name in ("server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path"):
            path = getattr(self, name)
            if path and not os.path.isfile(path):  # False too for what no file can be called
                raise ConfigError(f"{name}: there is no file {path}")

    @property
    def is_lite(self) -> bool:
        """Whether this is a file rather than a server."""
        return "://" not in self.uri and self.uri.endswith(".db")

    @property
    def file(self) -> Path:
        """Of Milvus Lite.

        Raises:
            StoreError: when it lies in a home folder, and there is none.
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
    """What a Milvus can do of the things this project needs or could use."""

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
    """Search by primary key inside the server."""
    partition_keys: bool
    """Lite takes one, and then no filter that names it."""
    keyed_upsert: bool
    """Whether rows that are upserted are found by their partition key."""
    bulk_import: Literal["none", "grpc", "rest"] = "none"
    """How files are imported."""
    import_keys: bool = False
    """Whether an import that is asked for again under the same key is the same import."""


def journal_folder(target: ConnectionConfig, collection: str) -> Path:
    """Where the journal of a collection is kept, unless someone says otherwise.

    Beside the file of Milvus Lite; for a server in the `state_folder`.
    """
    if target.is_lite:
        file = target.file.resolve()
        return file.with_name(f"{file.name}.journals") / collection
    parts = urlsplit(target.uri)
    where = f"{parts.hostname}:{parts.port}{parts.path} {target.db_name or ''}"
    digest = hashlib.blake2b(where.encode(), digest_size=6).hexdigest()
    return state_folder() / f"{parts.hostname}-{digest}" / collection


KEEPALIVE_OPTIONS: Final = {"grpc.keepalive_time_ms": 3_600_000}
"""pymilvus pings every 10 s; Lite's server takes that amiss after a while, hangs up, and says so on stderr."""


def connect(target: ConnectionConfig, *, may_create: bool = True) -> MilvusClient:
    """Open a client; a server that cannot be reached is given up after ``target.timeout`` seconds.

    Args:
        may_create: whether a file of Milvus Lite that is not there is made. Only what writes should: a mistyped name
            must not look like an empty catalog.

    Raises:
        MissingExtra: when a file is asked for and Milvus Lite is not installed.
        StoreError: when Milvus cannot be reached or opened.
    """
    if target.is_lite and not may_create and not Path(target.uri).expanduser().exists():
        raise StoreError(f"there is no Milvus Lite file {target.uri}; ingest makes one, or name another", setting="uri")
    log_like_others()
    given = {one.name: getattr(target, one.name) for one in fields(target)}
    options: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value
    }
    if not target.is_lite:
        try:
            with milvus_call(f"cannot connect to {target.uri}"):
                return MilvusClient(**options)
        except StoreBusy as error:
            if proxy := grpc_proxy(urlsplit(target.uri).hostname or ""):
                raise StoreBusy(f"{error}. {proxy}", setting=error.setting) from error
            raise
    path = check_file(target.uri)
    check_installed()
    try:
        return _open_lite(path, target.timeout)
    except StoreError as error:
        if not LITE_GONE.search(str(error)):
            raise
    # It ended as it started, or long ago: other programs that use Milvus Lite take its cache away (milvus-lite#305).
    forget_process(path)
    return _open_lite(path, target.timeout)


def _open_lite(path: Path, timeout: float) -> MilvusClient:
    with opening(path), milvus_call(f"cannot open {path}"):
        return MilvusClient(str(path), timeout=timeout, grpc_options=KEEPALIVE_OPTIONS)


def probe(client: MilvusClient) -> Capabilities:
    """Ask which Milvus this is; what it can do follows from its version.

    Raises:
        StoreError: when it does not answer.
    """
    with milvus_call("cannot ask Milvus for its version"):
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
        keyed_upsert=at >= (2, 4),  # before, it took the partition from another field (milvus#30607)
        bulk_import="rest" if at >= (2, 4) else "grpc",
        import_keys=(2, 6, 24) <= at < (3,) or at >= (3, 0, 2),
    )


def _parse(uri: str) -> SplitResult:
    """The URI of a server; the message shows none of it, for it may hold a password."""
    with suppress(ValueError):
        parts = urlsplit(uri)
        plain = not (parts.query or parts.fragment)  # which pymilvus would pass over
        if parts.scheme in URI_SCHEMES and parts.hostname and parts.port != 0 and plain:
            return parts
    raise ConfigError(
        "the Milvus URI must be http(s)://host:port, or the path of a Milvus Lite file that ends in .db; nothing of it "
        "may follow a ? or #"
    )


def _check_token(token: str) -> None:
    user, colon, password = token.partition(":")
    if not token.isprintable() or token != token.strip():
        problem = "it holds a line break, or a space at an end"
    elif colon and not (user and password):
        problem = "the user or the password is empty"
    elif not colon and " " in token:
        problem = "an API key holds no space"
    else:
        return
    raise ConfigError(f"the token has the wrong shape: {problem}; expected user:password or an API key")
