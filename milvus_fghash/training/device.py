"""Where torch computes."""

from __future__ import annotations

import torch

from milvus_fghash.errors import ConfigError


def device_named(name: str | None) -> torch.device:
    """A device by torch's name; None: `cuda` if there is one.

    Raises:
        ConfigError: when it cannot be used here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # lists every kind of device that torch knows
        raise ConfigError(f"device {name!r} cannot be used; give cpu, cuda, cuda:1 and so on") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
