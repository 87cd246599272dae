"""Checks of the installation and of the connection to Milvus. They create and change nothing."""

from __future__ import annotations

import importlib.util
import platform
import re
import runpy
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from milvus_fghash._version import __version__
from milvus_fghash.core.environment import installed
from milvus_fghash.errors import FghashError, MissingExtra, one_line

if TYPE_CHECKING:
    from milvus_fghash.milvus.connection import ConnectionConfig

State = Literal["ok", "missing", "warning", "broken"]
"""`missing` parts are optional; a `broken` part makes the command exit with 1."""

NOT_FOR_USERS = {"all", "dev", "docs"}
"""Extras for development, or that only combine others."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        part: what was checked.
        state: result of the check.
        detail: versions, or how to repair it.
    """

    part: str
    state: State
    detail: str


def examine(target: ConnectionConfig, asked_for: bool) -> list[Finding]:
    """Run all checks.

    Args:
        target: connection settings of Milvus.
        asked_for: whether the user named this Milvus, which must answer then.
    """
    return [
        Finding("milvus-fghash", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}"),
        *_packages(),
        _encoding(),
        *_torch(),
        _milvus_lite(),
        _configured_milvus(target, asked_for),
    ]


def extras() -> dict[str, list[str]]:
    """Extra -> its packages, from the metadata of the installed project; "" has the base packages."""
    found: dict[str, list[str]] = {}
    for requirement in metadata.requires("milvus-fghash") or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == \"(\w+)\"", requirement)
        key = extra.group(1) if extra else ""
        if name and key not in NOT_FOR_USERS:
            found.setdefault(key, []).append(name.group())
    return found


def _packages() -> Iterator[Finding]:
    from milvus_fghash.core.onnx_runtime import DISTRIBUTIONS, how_to_install

    for extra, packages in extras().items():
        versions = {package: installed(package) for package in packages}
        there = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        lacking = [package for package, version in versions.items() if not version]
        part = f"extra [{extra}]" if extra else "base packages"
        if not lacking:
            yield Finding(part, "ok", there)
        else:
            line = f"pip install 'milvus-fghash[{extra}]'" if extra else "pip install milvus-fghash"
            if extra in DISTRIBUTIONS:
                line = how_to_install(extra)
            yield Finding(part, "missing" if extra else "broken", f"lacks {', '.join(lacking)}: {line}")


def _encoding() -> Finding:
    from milvus_fghash.core.onnx_runtime import load_runtime

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            runtime = load_runtime()
        except MissingExtra as error:
            return Finding("encoding", "broken", str(error))
    if warned:
        return Finding("encoding", "warning", str(warned[0].message))
    providers = ", ".join(runtime.get_available_providers())
    return Finding("encoding", "ok", f"onnxruntime {runtime.__version__} with {providers}")


def _torch() -> Iterator[Finding]:
    """The build of torch, without importing it, which would take longer than all other checks."""
    if not installed("torch"):
        return
    try:
        version, cuda = _torch_build()
    except Exception as error:  # a missing or damaged file of torch
        message = one_line(f"{type(error).__name__}: {error}")
        yield Finding("training", "warning", f"the installation of torch is damaged ({message}); install it again")
        return
    yield Finding("training", "ok", f"torch {version}, {f'built for CUDA {cuda}' if cuda else 'built without CUDA'}")


def _torch_build() -> tuple[str, str | None]:
    """Version of torch, and the CUDA version that it was built for; raises any error of its files."""
    found = importlib.util.find_spec("torch")  # imports nothing
    if found is None or not found.origin:
        raise ImportError("its folder is missing")
    facts = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return str(facts["__version__"]), facts["cuda"]


def _milvus_lite() -> Finding:
    """Open a database in a temporary folder: an installed Milvus Lite may still not work."""
    from milvus_fghash.milvus.connection import ConnectionConfig

    if not installed("milvus-lite"):
        return Finding("Milvus Lite", "missing", "needed only for .db files: pip install 'milvus-fghash[lite]'")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = _milvus("Milvus Lite", ConnectionConfig(f"{folder}/doctor.db"))
    except OSError as error:  # no folder for temporary files
        return Finding("Milvus Lite", "warning", f"cannot be tried: {error.strerror or error}")
    return replace(found, state="ok" if found.state == "ok" else "warning")


def _configured_milvus(target: ConnectionConfig, asked_for: bool) -> Finding:
    from milvus_fghash.milvus.lite import check_file

    part = f"Milvus at {target.uri}"
    try:
        if target.is_lite and not target.file.exists():  # opening would create it
            check_file(target.uri)
            return Finding(part, "ok", "no such file yet; the first ingest creates it")
    except FghashError as error:
        return Finding(part, "broken" if asked_for else "warning", str(error))
    found = _milvus(part, target)
    return found if asked_for or found.state == "ok" else replace(found, state="warning")


def _milvus(part: str, target: ConnectionConfig) -> Finding:
    from milvus_fghash.milvus.connection import connect, probe

    try:
        client = connect(target)
        try:
            can = asdict(probe(client))
        finally:
            client.close()
    except FghashError as error:
        return Finding(part, "broken", str(error))
    kind, version, indexes = can.pop("kind"), can.pop("version"), can.pop("index_types")
    abilities = ", ".join(f"{'no ' if not able else ''}{name.replace('_', ' ')}" for name, able in can.items())
    return Finding(part, "ok", f"{kind} {version}: {', '.join(indexes)}; {abilities}")


def is_broken(findings: list[Finding]) -> bool:
    """Whether a required part does not work."""
    return any(finding.state == "broken" for finding in findings)
