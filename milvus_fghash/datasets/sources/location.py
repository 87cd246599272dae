"""Where photos are that are no files of their own here: behind a URL, or in an archive. Nothing is opened here."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from milvus_fghash.core.masking import without_secrets
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError

LIST_PROTOCOLS: Final = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Protocols that a list may name. None of them leads to a file here, whoever wrote the list."""
MAX_URL_BYTES: Final = 4096
"""Bytes of a URL."""
FETCH_TIMEOUT_SECONDS: Final = 24.0
"""For the bytes of one photo to come, where no other time is given."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
"""Parameters, in lower case, that make a URL a signed one of AWS, Google, CloudFront or Azure."""
_SIGNING = re.compile(
    r"(x-amz-|x-goog-).*|expires|signature|policy|key-pair-id|awsaccesskeyid|googleaccessid"
    r"|s[ivrtpe]|sig|spr|sip|sk[a-z]+"
)
"""Parameters that such a URL carries beside it, others each time."""


def protocol_of(text: str) -> str:
    """The protocol of a URL, in lower case; "" for what is none, such as a path.

    >>> protocol_of("S3://photos/birds"), protocol_of("photos/birds")
    ('s3', '')
    """
    match = _URL.match(text)
    return match[1].lower() if match else ""


def name_of(url: str) -> str:
    """What a photo behind a URL is called in ids and in the column `path`: the URL `without_secrets`.

    Where a query tells photos apart, a digest of it stands for it. Parameters that only sign the URL are not in it, so
    that a photo keeps its id when it is signed again.

    >>> name_of("https://host/photo?id=7&X-Amz-Signature=0f3a") == name_of("https://host/photo?id=7&X-Amz-Signature=b1")
    True
    """
    shown = without_secrets(url)
    if protocol_of(url) not in {"http", "https"}:
        return shown
    query = [(name.lower(), value) for name, value in parse_qsl(urlsplit(url).query, True)]
    signed = any(name in _SIGNATURES for name, _ in query)
    telling = sorted(pair for pair in query if not (signed and _SIGNING.fullmatch(pair[0])))
    if not telling:
        return shown
    return f"{shown}?{hashlib.blake2b(repr(telling).encode(), digest_size=8).hexdigest()}"


def url_problem(url: str) -> str:
    """What is wrong with a URL, as a sentence that shows nothing secret of it; "" for a good one.

    >>> url_problem("s3://KEY:SECRET@birds/a.jpg")
    's3://birds/a.jpg: credentials cannot stand in an s3:// URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY'
    """
    shown, protocol = without_secrets(url), protocol_of(url)
    if protocol in {"s3", "s3a"} and shown != url:
        return (
            f"{shown}: credentials cannot stand in an {protocol}:// URL; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if protocol in {"http", "https"}:
        try:
            parts = urlsplit(url)
            good = bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            return f"{shown} is no URL: expected {protocol}://HOST[:PORT]/PATH"
    return ""


@dataclass(frozen=True)
class Url:
    """Where a listing comes from, when that is no file and no folder here. Shown without what grants access.

    Raises:
        DataError: for a malformed URL, and one that holds what it must not.
    """

    full: str = field(repr=False)

    def __post_init__(self) -> None:
        if problem := url_problem(self.full):
            raise DataError(problem)

    def __str__(self) -> str:
        return without_secrets(self.full)

    @property
    def protocol(self) -> str:
        """In lower case, such as s3."""
        return protocol_of(self.full)

    @property
    def name(self) -> str:
        """The last part of the path, such as photos.csv."""
        return unquote(str(self).rstrip("/").rpartition("/")[2])

    @property
    def suffix(self) -> str:
        """Of the name, in lower case: .csv."""
        return Path(self.name).suffix.lower()

    @property
    def parent(self) -> Url:
        """What the paths in a list at this URL are relative to; a signature of the list is not taken along."""
        start, _, rest = self.full.partition("://")
        path = re.split("[?#]", rest)[0] if self.protocol in {"http", "https"} else rest
        return Url(f"{start}://{path.rpartition('/')[0] or path}")

    def __truediv__(self, path: str) -> Url:
        """What lies at a relative path below it."""
        return Url(f"{self.full.rstrip('/')}/{quote(path) if self.protocol in {'http', 'https'} else path}")


def parse_location(photos: str | Path | Url) -> Path | Url:
    """A path or a URL as people write it; ``file://`` is a path.

    >>> [type(parse_location(text)).__name__ for text in ("photos", "file:///photos", "s3://bucket/birds")]
    ['PosixPath', 'PosixPath', 'Url']
    """
    if not isinstance(photos, str):
        return photos
    protocol = protocol_of(photos)
    if protocol not in ("", "file"):
        return Url(photos)
    return Path(unquote(urlsplit(photos).path) if protocol else photos)


@dataclass(frozen=True, slots=True)
class PhotoLocation:
    """Bytes of a photo: an object behind a URL or a part of one, or a part of a local file.

    Attributes:
        where: the URL with all that grants access, or the absolute path of the local file.
        shown: how it is called in messages.
        version: what can be known of the content without reading it; "" when that is nothing.
        start: first byte of the part.
        size: bytes of the part; None: to the end.
        zipped: where the part is the member of a zip, its header included: method (0 or 8), packed bytes, CRC-32.
    """

    address: str = field(repr=False)
    display_name: str
    revision: str = ""
    start: int = 0
    size: int | None = None
    zipped: tuple[int, int, int] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a URL."""
        return bool(protocol_of(self.address))


@dataclass(frozen=True, slots=True)
class InvalidSource:
    """A photo that is listed and cannot be had, as is known before it is looked for.

    Attributes:
        shown: how it is called.
        version: as in `PhotoLocation`.
        reason: as in `ImageRejected`.
        message: one sentence.
    """

    display_name: str
    revision: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class InMemory:
    """A photo that the program holds.

    Attributes:
        data: of its file.
        shown: how it is called.
        version: as in `PhotoLocation`; nothing is known without reading it.
    """

    data: bytes = field(repr=False)
    display_name: str
    revision: str = ""


Source = Path | PhotoLocation | InvalidSource | InMemory
"""Where a photo is."""


def located(text: str, root: Path | Url, where: str) -> tuple[str, Source]:
    """Path and place of a photo as a list names it: a path relative to ``root``, or a URL.

    Args:
        where: where it stands in the list, for messages.

    Raises:
        DataError: for a URL that a list may not name, and a path as `inside` rejects it.
    """
    if not (protocol := protocol_of(text)):
        path = relative_path(text, where)
        place = root / path
        return path, place if isinstance(place, Path) else PhotoLocation(place.full, name_of(place.full))
    if protocol not in LIST_PROTOCOLS:
        raise DataError(
            f"{where}: a list cannot name {protocol}:// URLs; expected one of {', '.join(sorted(LIST_PROTOCOLS))}"
        )
    if problem := url_problem(text):
        raise DataError(f"{where}: {problem}")
    if len(text.encode(errors="replace")) > MAX_URL_BYTES or not text.isprintable():
        raise DataError(f"{where}: the URL has more than {MAX_URL_BYTES:,} bytes, or unprintable characters")
    return name_of(text), PhotoLocation(text, name_of(text))
