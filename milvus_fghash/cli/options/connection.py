"""Connection settings of Milvus: option, environment variable, settings file or default, in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.options.common import Option, gathered
from milvus_fghash.cli.options.paths import READABLE_FILE
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.core.masking import KNOWN_SECRETS, masked
from milvus_fghash.core.text_file import parse_toml, read_text
from milvus_fghash.errors import ConfigError, nearest

if TYPE_CHECKING:
    from milvus_fghash.catalog import Catalog
    from milvus_fghash.milvus.connection import ConnectionConfig
    from milvus_fghash.milvus.pymilvus_compat import MilvusClient

SOURCES = {  # highest precedence first
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
    ParameterSource.DEFAULT: "default",
}


@dataclass(frozen=True)
class Connection:
    """The connection settings of one command, and the source of each (`flag`, `environment`, `file`, `default`)."""

    values: dict[str, Any]
    sources: dict[str, str]

    @property
    def collection_name(self) -> str:
        return str(self.values["collection_name"])

    @property
    def is_explicit(self) -> bool:
        """Whether the URI was given, rather than left at the default file."""
        return self.sources["uri"] != "default"

    def config(self) -> ConnectionConfig:
        """The settings without the collection name."""
        from milvus_fghash.milvus.connection import ConnectionConfig

        return ConnectionConfig(**{name: value for name, value in self.values.items() if name != "collection_name"})

    def journal_folder(self, collection: str, given: Path | None) -> Path:
        """Folder of the journal of a collection (not of an alias); ``given`` is the value of ``--journal``."""
        from milvus_fghash.milvus.connection import journal_folder

        return given or journal_folder(self.config(), collection)

    def connect(self, *, may_create: bool = False) -> MilvusClient:
        """A client; raises like `milvus.connection.connect`."""
        from milvus_fghash.milvus.connection import connect

        return connect(self.config(), may_create=may_create)

    def catalog(self, name: str | None = None, **options: Any) -> Catalog:
        """The catalog of the configured collection, or of ``name``; ``options`` as in `Catalog.open`."""
        from milvus_fghash.catalog import Catalog

        return Catalog.open(self.config(), name or self.collection_name, notify=notify, **options)

    def shown(self) -> dict[str, str]:
        """Settings that have a value, for printing: the token appears as `set`."""
        known = {name: value for name, value in self.values.items() if value not in (None, "", False)}
        return {name: "set" if name == "token" else masked(str(value)) for name, value in known.items()}


def _read_file(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Use the table ``[milvus]`` of the file as defaults of the other options (`--config` is eager)."""
    if path is None:
        return
    try:
        tables = parse_toml(read_text(path, "the settings file"))
    except ValueError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from None
    for table in tables:
        if table != "milvus":
            raise ConfigError(f"{path}: unknown key {table!r}. {nearest(table, ['milvus'])}")
    settings = tables.get("milvus", {})
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: 'milvus' must be a table, [milvus]")
    for key, value in settings.items():
        if key not in NAMES:
            raise ConfigError(f"{path}: unknown key {key!r} in [milvus]. {nearest(key, NAMES)}")
        wanted = bool if key == "secure" else str
        if not isinstance(value, wanted):  # the value is not shown: it may be a token
            raise ConfigError(f"{path}: {key} in [milvus] must be {'true or false' if wanted is bool else 'a string'}")
    ctx.default_map = {**(ctx.default_map or {}), **settings}


_COLLECTION_NAME = click.option("--collection-name", default="photos", help="Collection, or an alias of one.")
_CONFIG = click.option("--config", type=READABLE_FILE, is_eager=True, expose_value=False, callback=_read_file,
                       help="TOML file with these settings in a table [milvus].")  # fmt: skip
_SERVER = (
    click.option("--uri", envvar="MILVUS_URI", show_envvar=True, default="milvus-fghash.db",
                 help="URL of a Milvus server (http://host:19530), or a Milvus Lite file."),
    click.option("--token", envvar="MILVUS_TOKEN", show_envvar=True, show_default=False,
                 help="user:password or API key. Other users can see command lines: prefer the environment variable "
                 "or --token-file."),
    click.option("--token-file", type=READABLE_FILE, help="File that contains the token."),
    click.option("--db-name", envvar="MILVUS_DB_NAME", show_envvar=True, help="Database on the server."),
)  # fmt: skip
_TLS = (
    click.option("--secure", is_flag=True, help="Use TLS."),
    click.option("--server-pem-path", type=READABLE_FILE, help="Certificate of the server (one-way TLS)."),
    click.option("--ca-pem-path", type=READABLE_FILE, help="Certificate of the authority (two-way TLS)."),
    click.option("--client-pem-path", type=READABLE_FILE, help="Certificate of this client (two-way TLS)."),
    click.option("--client-key-path", type=READABLE_FILE, help="Private key of this client (two-way TLS)."),
    click.option("--server-name", help="Host name in the server's certificate."),
)  # fmt: skip
NAMES = (
    "uri", "token", "token_file", "db_name", "collection_name", "secure",
    "server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path", "server_name",
)  # fmt: skip


def milvus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the connection options; the command receives a `Connection` as ``connection``."""
    return _gathered(*_SERVER, _COLLECTION_NAME, *_TLS)(command)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As `milvus_options`, without the collection name."""
    return _gathered(*_SERVER, *_TLS)(command)


def _gathered(*options: Option) -> Option:
    def build(**values: Any) -> Connection:
        return _resolve(click.get_current_context(), values)

    return gathered("connection", NAMES, build, *options, _CONFIG)


def _resolve(ctx: click.Context, values: dict[str, Any]) -> Connection:
    sources = {name: SOURCES[ctx.get_parameter_source(name) or ParameterSource.DEFAULT] for name in values}
    token_file, file_source = values.pop("token_file"), sources.pop("token_file")
    ranks = list(SOURCES.values())
    if token_file is not None and ranks.index(file_source) <= ranks.index(sources["token"]):
        if sources["token"] == file_source:
            raise click.UsageError("--token and --token-file cannot both be given")
        values["token"], sources["token"] = _read_token(token_file), f"{file_source} (token file)"
    KNOWN_SECRETS.add_token(values["token"] or "")
    KNOWN_SECRETS.add_url(values["uri"])
    return Connection(values, sources)


def _read_token(path: Path) -> str:
    token = read_text(path, "the token file").strip()
    if not token:
        raise ConfigError(f"the token file {path} is empty")
    return token
