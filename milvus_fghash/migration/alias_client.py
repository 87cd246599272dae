"""For long-running programs: the collection an alias points to at the moment, and the bundle that fits it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from milvus_fghash.bundle.bundle import MANIFEST, is_bundle
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.errors import BundleError, StoreBusy, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.pymilvus_compat import MilvusClient


@dataclass
class AliasClient:
    """Follows an alias across model changes, so that a program that searches needs no restart.

    `current` asks Milvus (one call) and opens collection and bundle again only when the alias points to another
    collection, or the collection was dropped and created again. Put the bundle of a new model beside the old one before
    the alias is moved.

    Attributes:
        client: connection to Milvus.
        alias: alias or name of a collection.
        bundles: a bundle, or a folder of bundles.
        provider: ONNX Runtime execution provider; None chooses one.
        threads: threads of ONNX Runtime; 0 lets it choose.
        encode_timeout: seconds that one run of the graph may take.

    Examples:
        >>> from pathlib import Path
        >>> import milvus_fghash as fg
        >>> from pymilvus import MilvusClient
        >>> birds = fg.AliasClient(MilvusClient("birds.db"), "birds", Path("bundles"))  # doctest: +SKIP
        >>> collection, encoder = birds.current()  # doctest: +SKIP
    """

    client: MilvusClient
    alias: str
    bundles: Path
    provider: str | None = None
    threads: int = 0
    encode_timeout: float = ENCODE_TIMEOUT
    _opened: tuple[HashCollection, Encoder] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.bundles = Path(self.bundles)

    def current(self) -> tuple[HashCollection, Encoder]:
        """The collection and the encoder of its codes, for searches that begin now.

        If the collection is dropped and created again for another model right after this call, `search_file` raises
        StoreError.

        Returns:
            The same two objects until the alias points to another collection.

        Raises:
            BundleError: when no bundle fits the collection.
            StoreError: when there is no such collection, or Milvus does not answer.
        """
        opened = self._opened
        if opened is None or not self._is_current(opened[0]):
            collection = HashCollection.open(self.client, self.alias)
            bundle = bundle_for(collection, self.bundles)
            encoder = Encoder.open(bundle, self.provider, self.threads, encode_timeout=self.encode_timeout)
            opened = self._opened = (collection, encoder)
        return opened

    def _is_current(self, collection: HashCollection) -> bool:
        try:
            return collection.refers_to_this(self.alias)
        except StoreBusy:
            raise
        except StoreError:  # nothing has that name; `open` says so more clearly than Milvus
            return False


def bundle_for(collection: HashCollection, path: Path) -> Path:
    """The bundle that made the codes of a collection: ``path`` if it is a bundle, else one of those in that folder.

    A bundle at ``path`` is not compared with the collection; `HashCollection.check_model` does that.

    Raises:
        BundleError: when no bundle in the folder fits.
    """
    if is_bundle(path):
        return path
    bundles = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    for bundle in bundles:
        if _fingerprint(bundle) == collection.metadata.fingerprint:
            return bundle
    if not bundles:
        raise BundleError(f"{path} is neither a bundle nor a folder of bundles; expected what export wrote")
    names = ", ".join(one.name for one in bundles[:3])
    raise BundleError(
        f"none of the bundles in {path} ({names}{', ...' if len(bundles) > 3 else ''}) made the codes of "
        f"{collection.name} (fingerprint {collection.metadata.fingerprint[:12]}...); add the bundle that did"
    )


def _fingerprint(bundle: Path) -> str | None:
    """As in the manifest, unchecked: opening the bundle checks it."""
    try:
        return str(parse_json(read_bounded(bundle / MANIFEST, MAX_RECORD_BYTES, links=False))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
