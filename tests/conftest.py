"""What tests of several parts share."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from milvus_fghash.cli import main
from milvus_fghash.data.drawings import draw_birds
from milvus_fghash.data.listing import Listing

Run = Callable[..., Result]


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
    if "milvus_lite" in sys.modules:  # else its servers live as long as the tests do
        from milvus_lite.server_manager import server_manager_instance

        for file in tmp_path.glob("*.db"):
            server_manager_instance.release_server(str(file))
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """4 classes of 6 train and 3 test pictures, 64 pixels a side."""
    folder = tmp_path_factory.mktemp("birds")
    return draw_birds(folder, classes=4, train_per_class=6, test_per_class=3, size=64)


@pytest.fixture
def birds(drawn_birds: Listing, tmp_path: Path) -> Path:
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
