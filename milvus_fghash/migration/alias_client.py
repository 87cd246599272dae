"""For what searches for days: the collection a name stands for at the moment, and the bundle that fits it."""

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
    """Asks Milvus before each search, and opens anew only when the name stands for another collection than before.

    An alias may have moved, or the collection was dropped and made anew. It is one call to a server each time.

    A model change needs no restart: put the new bundle beside the old one before the alias moves.
    """

    client: MilvusClient
    alias: str
    """Or the name of a collection."""
    bundles: Path
    """A bundle, or a folder of bundles."""
    provider: str | None = None
    threads: int = 0
    encode_timeout: float = ENCODE_TIMEOUT
    _opened: tuple[HashCollection, Encoder] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.bundles = Path(self.bundles)

    def now(self) -> tuple[HashCollection, Encoder]:
        """What to search in, and with. It stays right for searches that begin now, wherever the alias goes.

        A collection that is dropped and made anew in the very moment is rejected by `search_file` if its model differs.

        Raises:
            BundleError: when no bundle fits.
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
        except StoreError:  # nothing has that name, says Milvus in its words; `open` has better ones
            return False


def bundle_for(collection: HashCollection, path: Path) -> Path:
    """The bundle that made the codes of a collection: ``path`` itself, or one of those in that folder.

    One that is named is given back as it is; `HashCollection.check_model` says whether it fits.

    Raises:
        BundleError: when none of those in the folder does.
    """
    if is_bundle(path):
        return path
    there = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    for bundle in there:
        if _fingerprint(bundle) == collection.metadata.fingerprint:
            return bundle
    if not there:
        raise BundleError(f"{path} is no bundle, and no folder of bundles; give one that export made")
    names = ", ".join(one.name for one in there[:3])
    raise BundleError(
        f"none of the bundles in {path} ({names}{', ...' if len(there) > 3 else ''}) made the codes of "
        f"{collection.name} (fingerprint {collection.metadata.fingerprint[:12]}...); put the bundle there that did"
    )


def _fingerprint(bundle: Path) -> str | None:
    """As the manifest says; whoever opens the bundle checks it."""
    try:
        return str(parse_json(read_bounded(bundle / MANIFEST, MAX_RECORD_BYTES, links=False))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
