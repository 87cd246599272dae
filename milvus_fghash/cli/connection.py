"""Where Milvus is and how to log in: flag > environment > file > default, and which of them it was."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import READABLE_FILE, all_of
from milvus_fghash.core.masking import KNOWN_SECRETS, masked
from milvus_fghash.core.text_file import parse_toml, read_text
from milvus_fghash.errors import ConfigError, nearest

if TYPE_CHECKING:
    from milvus_fghash.catalog import Catalog
    from milvus_fghash.milvus.connection import ConnectionConfig
    from milvus_fghash.milvus.pymilvus_compat import MilvusClient

SOURCES = {  # best first
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
    ParameterSource.DEFAULT: "default",
}


@dataclass(frozen=True)
class Connection:
    """The settings of one command, and where each came from (`flag`, `environment`, `file`, `default`)."""

    values: dict[str, Any]
    sources: dict[str, str]

    @property
    def collection_name(self) -> str:
        return str(self.values["collection_name"])

    @property
    def asked_for(self) -> bool:
        """Whether someone named a Milvus, rather than taking the default file."""
        return self.sources["uri"] != "default"

    def target(self) -> ConnectionConfig:
        """The same settings as the serving part wants them."""
        from milvus_fghash.milvus.connection import ConnectionConfig

        return ConnectionConfig(**{name: value for name, value in self.values.items() if name != "collection_name"})

    def journal_folder(self, collection: str, given: Path | None) -> Path:
        """Where the journal of a collection is kept; ``given`` by a flag or not. An alias has none of its own."""
        from milvus_fghash.milvus.connection import journal_folder

        return given or journal_folder(self.target(), collection)

    def connect(self, *, may_create: bool = False) -> MilvusClient:
        """A client; raises as `target.connect`."""
        from milvus_fghash.milvus.connection import connect

        return connect(self.target(), may_create=may_create)

    def catalog(self, name: str | None = None, **options: Any) -> Catalog:
        """The collection of the settings, or of another name; ``options`` as in `Catalog.open`."""
        from milvus_fghash.catalog import Catalog

        return Catalog.open(self.target(), name or self.collection_name, notify=notify, **options)

    def shown(self) -> dict[str, str]:
        """Settings that have a value, fit to be printed: a token is only `set`."""
        known = {name: value for name, value in self.values.items() if value not in (None, "", False)}
        return {name: "set" if name == "token" else masked(str(value)) for name, value in known.items()}


def _read_file(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Make the file's ``[milvus]`` table the defaults of the other options (`--config` is read first)."""
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
            raise ConfigError(f"{path}: {key} in [milvus] must be {'true or false' if wanted is bool else 'a text'}")
    ctx.default_map = {**(ctx.default_map or {}), **settings}


_COLLECTION_NAME = click.option("--collection-name", default="photos", help="Collection of codes.")
_OPTIONS = (
    click.option("--uri", envvar="MILVUS_URI", show_envvar=True, default="milvus-fghash.db",
                 help="Milvus server (http://host:19530), or a file for Milvus Lite."),
    click.option("--token", envvar="MILVUS_TOKEN", show_envvar=True, show_default=False,
                 help="user:password or API key. Others can read flags: prefer the environment or --token-file."),
    click.option("--token-file", type=READABLE_FILE, help="File that holds the token."),
    click.option("--db-name", envvar="MILVUS_DB_NAME", show_envvar=True, help="Database on the server."),
    _COLLECTION_NAME,
    click.option("--secure", is_flag=True, help="Use TLS."),
    click.option("--server-pem-path", type=READABLE_FILE, help="Certificate of the server (one-way TLS)."),
    click.option("--ca-pem-path", type=READABLE_FILE, help="Certificate of the authority (two-way TLS)."),
    click.option("--client-pem-path", type=READABLE_FILE, help="Certificate of this client (two-way TLS)."),
    click.option("--client-key-path", type=READABLE_FILE, help="Private key of this client (two-way TLS)."),
    click.option("--server-name", help="Name the server's certificate is issued to."),
)  # fmt: skip
NAMES = (
    "uri", "token", "token_file", "db_name", "collection_name", "secure",
    "server_pem_path", "ca_pem_path", "client_pem_path", "client_key_path", "server_name",
)  # fmt: skip


def milvus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the connection options; the command gets them as one `connection`."""
    return _gathered(command, _OPTIONS)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add them but for the collection's name: for commands about all collections, or that take the name otherwise."""
    return _gathered(command, [option for option in _OPTIONS if option is not _COLLECTION_NAME])


def _gathered(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    @functools.wraps(command)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        values = {name: kwargs.pop(name) for name in NAMES if name in kwargs}
        return command(*args, connection=_resolve(click.get_current_context(), values), **kwargs)

    config = click.option("--config", type=READABLE_FILE, is_eager=True, expose_value=False, callback=_read_file,
                          help="TOML file with these settings in a table [milvus].")  # fmt: skip
    decorated: Callable[..., Any] = all_of(*options, config)(gathered)
    return decorated


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
