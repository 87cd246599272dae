"""Parameter types of paths: a local file or folder, or anything that photos can be read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from milvus_fghash.core.masking import KNOWN_SECRETS, without_secrets
from milvus_fghash.errors import ConfigError


class _LocalPath(click.Path):
    """An existing path; a URL is rejected with a message of its own."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.datasets.sources.location import protocol_of

        if isinstance(value, str) and protocol_of(value):
            self.fail(f"{without_secrets(value)} is a URL, and this command reads files; download it first", param, ctx)
        return super().convert(value, param, ctx)


class _PhotoSource(_LocalPath):
    """An existing path or a URL; where folders are accepted, also a brace pattern of shards."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from milvus_fghash.datasets.sources.location import Url, parse_location, protocol_of

        if isinstance(value, Path | Url):
            return value
        place = parse_location(value)
        if isinstance(place, Url):
            KNOWN_SECRETS.add_url(place.full)
            return place
        if "{" in str(place) and self.dir_okay:
            return place
        return super().convert(str(place) if protocol_of(value) else value, param, ctx)  # an empty text is no path


PHOTOS = _PhotoSource(exists=True, path_type=Path)
PHOTO = _PhotoSource(exists=True, dir_okay=False, path_type=Path)
READABLE = _LocalPath(exists=True, path_type=Path)
READABLE_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
READABLE_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_PATH = click.Path(path_type=Path)


def check_outputs(photos: Path, *outputs: Path | None) -> None:
    """Reject an output that would replace the list of photos or lie among the photos; as `Dataset.keep_apart`.

    Raises:
        ConfigError: names the first such output.
    """
    for out in outputs:
        if out is None or not out.resolve().is_relative_to(photos.resolve()):
            continue
        inside = out.resolve().relative_to(photos.resolve())
        if not photos.is_dir():
            raise ConfigError(f"{out} is the list or the archive of the photos; write the output to another file")
        if not any(part.startswith(".") for part in inside.parts):
            raise ConfigError(f"{out} is inside the photo folder {photos}; write the output outside of it")
