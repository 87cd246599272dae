"""Environment variables that send a connection through a proxy, to explain one that fails."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

GRPC_PROXY_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""In the order in which gRPC reads them, with or without TLS; the first that is set counts."""
GRPC_NO_PROXY_VARIABLES: Final = ("no_grpc_proxy", "no_proxy")
"""Likewise: hosts, suffixes of host names, and networks that are reached without a proxy."""


def grpc_proxy(host: str) -> str:
    """A sentence that names the variable which sends gRPC to a host through a proxy; "" without one."""
    variable = next((name for name in GRPC_PROXY_VARIABLES if name in os.environ), "")
    if not variable or not os.environ[variable]:  # an empty one means no proxy
        return ""
    exceptions = next((os.environ[name] for name in GRPC_NO_PROXY_VARIABLES if name in os.environ), "").split(",")
    around = _is_excepted(host, [one.strip() for one in exceptions if one.strip()])
    return "" if around else _sentence(variable, host)


def http_proxy(scheme: str, host: str) -> str:
    """The same for HTTP, following the rules of `urllib.request`."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "")
    return _sentence(variable, host) if variable and not proxy_bypass(host) else ""


def _is_excepted(host: str, excepted: Sequence[str]) -> bool:
    return any(host.endswith(one) or _is_in(host, one) for one in excepted)


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _sentence(variable: str, host: str) -> str:
    """Names only host and port of the proxy: its URL may contain a password."""
    try:
        parts = urlsplit(os.environ[variable])
        proxy = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        proxy = None
    named = f"the proxy {proxy}" if proxy else "a proxy"
    return (
        f"The variable {variable} sends this connection through {named}: if this is not intended, unset it, or "
        f"add {host} to the variable no_proxy"
    )
