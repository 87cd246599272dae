"""What tests of several parts share."""

from __future__ import annotations

import logging
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings
from pymilvus import MilvusClient

from milvus_fghash.cli import main
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.encoding import decode_pool
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.milvus import connection
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from tests.helpers.commands import Run, release_databases
from tests.helpers.decoders import FAILING, Processes, greys, watch
from tests.helpers.milvus_polls import frequent_polls
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import Catalog, draw_photos

if TYPE_CHECKING:
    from tests.helpers.http_server import Site
    from tests.helpers.s3_server import Store


settings.register_profile("tests", deadline=None)  # a busy machine takes longer than 200 ms for an example
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def milvus_polls() -> Iterator[None]:
    with frequent_polls():
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """The command in this process, with what it writes kept apart: `run("search", "--id", "7")` in an empty folder.

    `env=` adds variables. Unexpected exceptions come through.
    """
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def invoke(*words: str | Path, env: dict[str, str] | None = None) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield invoke
    release_databases(tmp_path)
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """4 classes of 6 train and 3 test pictures, 64 pixels a side."""
    folder = tmp_path_factory.mktemp("birds")
    return draw_birds(folder, classes=4, train_per_class=6, test_per_class=3, size=64)


@pytest.fixture
def birds(drawn_birds: Dataset, tmp_path: Path) -> Path:
    """36 drawn birds of 4 classes, in train/ and test/."""
    return Path(shutil.copytree(drawn_birds.root, tmp_path / "birds"))


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """What waits for ever fails, after 10 seconds."""

    def give_up(*_: object) -> None:
        raise TimeoutError("waited for what never comes")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# Small real bundles and Milvus Lite files


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 bits, 16 pixels a side."""
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusClient]:
    """A client of a new Milvus Lite file; the tests of a module share it under names of their own."""
    path = tmp_path_factory.mktemp("lite") / "test.db"
    with closing(connect(ConnectionConfig(str(path)))) as client:
        yield client
    release_databases(path.parent)


@pytest.fixture
def small_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MilvusClient]:
    """A client whose connection rejects messages of more than 50,000 bytes, as servers do at 64 MB."""
    options: dict[Any, int] = {**connection.KEEPALIVE_OPTIONS, b"grpc.max_send_message_length": 50_000}
    monkeypatch.setattr(connection, "KEEPALIVE_OPTIONS", options)
    path = tmp_path / "small.db"
    with closing(connect(ConnectionConfig(str(path)))) as client:
        yield client
    release_databases(tmp_path)


@pytest.fixture
def new_name() -> str:
    """A collection name nobody uses."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def catalog(bundle: Path, lite: MilvusClient, new_name: str, tmp_path: Path) -> Catalog:
    """Photos that are not in yet."""
    encoder = Encoder.open(bundle)
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest)
    return Catalog(encoder, draw_photos(tmp_path / "photos"), collection, tmp_path / "journal")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """100 pictures; each has its row as its grey."""
    return greys(tmp_path, 100)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Grows by each process that is started to decode."""
    return watch(monkeypatch)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers fail as photos' names tell them."""
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", FAILING))


# Real servers for photos that are elsewhere


@pytest.fixture
def site() -> Iterator[Site]:
    from tests.helpers.http_server import serving

    with serving() as site:
        yield site


@pytest.fixture(scope="session")
def running_store() -> Iterator[Store]:
    from tests.helpers.s3_server import storing

    with storing() as store:
        yield store


@pytest.fixture
def store(running_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Found as a user's is: by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_store.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    running_store.asked.clear()
    return running_store


@pytest.fixture
def bucket(store: Store) -> str:
    """A new one."""
    name = f"photos-{uuid.uuid4().hex[:12]}"
    store.fs.mkdir(name)
    return name
