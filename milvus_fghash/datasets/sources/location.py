"""Where photos are read from: local files, URLs, archives, memory. Nothing is opened in this module."""

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
"""Protocols allowed in lists. None of them reads a local file, whoever wrote the list."""
MAX_URL_BYTES: Final = 4096
"""Longest URL in a list."""
FETCH_TIMEOUT_SECONDS: Final = 24.0
"""Default time for fetching one photo."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "sig"})
"""Query parameters, in lower case, that mark signed URLs of AWS, Google, CloudFront and Azure."""
_SIGNING = re.compile(
    r"(x-amz-|x-goog-).*|expires|signature|policy|key-pair-id|awsaccesskeyid|googleaccessid"
    r"|s[ivrtpe]|sig|spr|sip|sk[a-z]+"
)
"""Query parameters of a signed URL that differ each time it is signed."""


def protocol_of(text: str) -> str:
    """The protocol of a URL, in lower case; "" for anything else, such as a path.

    >>> protocol_of("S3://photos/birds"), protocol_of("photos/birds")
    ('s3', '')
    """
    match = _URL.match(text)
    return match[1].lower() if match else ""


def name_of(url: str) -> str:
    """The name of a photo behind a URL, in ids and in the column `path`: the URL `without_secrets`.

    A query that distinguishes photos is replaced by its digest. Parameters that only sign the URL are not part of it,
    so a photo keeps its id when the URL is signed again.

    >>> name_of("https://host/photo?id=7&X-Amz-Signature=0f3a") == name_of("https://host/photo?id=7&X-Amz-Signature=b1")
    True
    """
    shown = without_secrets(url)
    if protocol_of(url) not in {"http", "https"}:
        return shown
    query = [(name.lower(), value) for name, value in parse_qsl(urlsplit(url).query, True)]
    signed = any(name in _SIGNATURES for name, _ in query)
    distinguishing = sorted(pair for pair in query if not (signed and _SIGNING.fullmatch(pair[0])))
    if not distinguishing:
        return shown
    return f"{shown}?{hashlib.blake2b(repr(distinguishing).encode(), digest_size=8).hexdigest()}"


def url_problem(url: str) -> str:
    """What is wrong with a URL, as a message without its secrets; "" for a valid one.

    >>> url_problem("s3://KEY:SECRET@birds/a.jpg")
    's3://birds/a.jpg: an s3:// URL cannot contain credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY'
    """
    shown, protocol = without_secrets(url), protocol_of(url)
    if protocol in {"s3", "s3a"} and shown != url:
        return (
            f"{shown}: an {protocol}:// URL cannot contain credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if protocol in {"http", "https"}:
        try:
            parts = urlsplit(url)
            good = bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            return f"{shown} is not a valid URL: expected {protocol}://HOST[:PORT]/PATH"
    return ""


@dataclass(frozen=True)
class Url:
    """A URL of photos, of an archive or of a list. `str` and `repr` show it without secrets.

    Attributes:
        full: the URL as given, with user, password and query.

    Raises:
        DataError: for a malformed URL, or credentials in an ``s3://`` URL.

    Examples:
        >>> str(Url("https://me:secret@host/birds/list.csv?token=0f3a"))
        'https://host/birds/list.csv'
    """

    full: str = field(repr=False)

    def __post_init__(self) -> None:
        if problem := url_problem(self.full):
            raise DataError(problem)

    def __str__(self) -> str:
        return without_secrets(self.full)

    @property
    def protocol(self) -> str:
        """The protocol in lower case, such as ``"s3"``."""
        return protocol_of(self.full)

    @property
    def name(self) -> str:
        """The last component of the path, such as ``"photos.csv"``."""
        return unquote(str(self).rstrip("/").rpartition("/")[2])

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case, such as ``".csv"``."""
        return Path(self.name).suffix.lower()

    @property
    def parent(self) -> Url:
        """The parent folder, without the query: the paths of a list are relative to it."""
        start, _, rest = self.full.partition("://")
        path = re.split("[?#]", rest)[0] if self.protocol in {"http", "https"} else rest
        return Url(f"{start}://{path.rpartition('/')[0] or path}")

    def __truediv__(self, path: str) -> Url:
        """The URL of a relative path below this one."""
        return Url(f"{self.full.rstrip('/')}/{quote(path) if self.protocol in {'http', 'https'} else path}")


def parse_location(photos: str | Path | Url) -> Path | Url:
    """A path or a URL from text; ``file://`` is a path.

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
    """The bytes of a photo: an object behind a URL or a part of it, or a part of a local file.

    Attributes:
        address: the URL with its credentials, or the absolute path of the local file.
        display_name: name for messages, without secrets.
        revision: identifies the content without reading it, such as an ETag with the size; "" when unknown.
        start: offset of the first byte.
        size: number of bytes; None: up to the end.
        zipped: for the member of a zip, header included: method (0 or 8), compressed bytes, CRC-32.
    """

    address: str = field(repr=False)
    display_name: str
    revision: str = ""
    start: int = 0
    size: int | None = None
    zipped: tuple[int, int, int] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is read from a URL."""
        return bool(protocol_of(self.address))


@dataclass(frozen=True, slots=True)
class InvalidSource:
    """A photo of the dataset that cannot be read, as its reader knows already.

    Attributes:
        display_name, revision: as in `PhotoLocation`.
        reason: as in `ImageRejected`.
        message: one sentence.
    """

    display_name: str
    revision: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class InMemory:
    """A photo passed in memory.

    Attributes:
        data: the bytes of its file.
        display_name, revision: as in `PhotoLocation`; the revision is unknown.
    """

    data: bytes = field(repr=False)
    display_name: str
    revision: str = ""


Source = Path | PhotoLocation | InvalidSource | InMemory
"""What a photo is read from."""


def resolve_source(text: str, root: Path | Url, where: str) -> tuple[str, Source]:
    """Path and source of a photo that a list names by a path relative to ``root``, or by a URL.

    Args:
        where: position in the list, for messages.

    Raises:
        DataError: for a URL that lists must not contain, and for a path as `inside` rejects it.
    """
    if not (protocol := protocol_of(text)):
        path = relative_path(text, where)
        file = root / path
        return path, file if isinstance(file, Path) else PhotoLocation(file.full, name_of(file.full))
    if protocol not in LIST_PROTOCOLS:
        raise DataError(
            f"{where}: a list cannot contain {protocol}:// URLs; expected one of {', '.join(sorted(LIST_PROTOCOLS))}"
        )
    if problem := url_problem(text):
        raise DataError(f"{where}: {problem}")
    if len(text.encode(errors="replace")) > MAX_URL_BYTES or not text.isprintable():
        raise DataError(f"{where}: the URL has more than {MAX_URL_BYTES:,} bytes, or unprintable characters")
    return name_of(text), PhotoLocation(text, name_of(text))
