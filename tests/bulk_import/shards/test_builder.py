"""Photos into shards: the same ones from the same photos, whatever happened in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.bulk_import.shards import builder as building
from milvus_fghash.bulk_import.shards.builder import ShardOptions, build_shards, local_engine
from milvus_fghash.bulk_import.shards.folder import Marker
from milvus_fghash.bulk_import.shards.parquet import read_rows
from milvus_fghash.bulk_import.shards.plan import ShardTask
from milvus_fghash.bulk_import.shards.writer import ShardWriter, Tick
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError, Inconsistent, Stopped
from milvus_fghash.milvus.rows import photo_id
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import paint
from tests.helpers.small_shards import SmallShards

pytestmark = pytest.mark.full


class Killed(BaseException):
    """Ends a run where a kill would."""


def dying(after: int) -> building.Engine:
    def engine(maker: ShardWriter, tasks: Iterable[ShardTask], tick: Tick) -> Iterator[Marker]:
        for number, marker in enumerate(local_engine(maker, tasks, tick)):
            if number == after:
                raise Killed
            yield marker

    return engine


def test_rows_are_those_of_the_encoder(shards: SmallShards) -> None:
    result = shards.build()
    assert (result.photos, result.rows, result.shards, result.made, result.rejected) == (40, 40, 3, 3, 0)
    dataset = read("folder", shards.photos)
    encoded = shards.encoder.encode_files([dataset.file(row) for row in range(40)])
    sizes = [marker.rows for marker in shards.folder.check_all().values()]
    assert sizes == [16, 16, 8]
    found = [read_rows(shards.folder.data(n), range(size), 12) for n, size in zip(shards.names(), sizes, strict=True)]
    assert np.array_equal(np.concatenate([rows.codes for rows in found]), encoded.codes)
    assert [path for rows in found for path in rows.paths] == list(dataset.paths)
    assert [key for rows in found for key in rows.ids] == [photo_id("", path) for path in dataset.paths]
    assert [sha for rows in found for sha in rows.content_shas] == list(encoded.content_shas)


def test_the_same_photos_give_the_same_bytes(shards: SmallShards) -> None:
    shards.build()
    before = shards.files()
    assert shards.build().made == 0
    shutil.rmtree(shards.path)
    shards.build()
    assert shards.files() == before
    shutil.rmtree(shards.path)
    shards.build(workers=2)
    assert shards.files() == before


@pytest.mark.parametrize("after", [0, 1, 2])
def test_after_a_kill_only_missing_shards_are_made(shards: SmallShards, after: int) -> None:
    shards.build()
    whole = shards.files()
    shutil.rmtree(shards.path)
    with pytest.raises(Killed):
        shards.build(engine=dying(after))
    left = [name for name in shards.names() if shards.folder.marker(name) is None]
    assert shards.build().made == len(left)
    assert shards.files() == whole


def test_a_process_that_is_killed_leaves_whole_shards(shards: SmallShards, bundle: Path) -> None:
    shards.build()
    whole = shards.files()
    shutil.rmtree(shards.path)
    code = f"""
import os, signal
from pathlib import Path
from milvus_fghash.bulk_import.shards import writer as making
from milvus_fghash.encoding.encoder import Encoder
from tests.helpers.small_shards import SmallShards
real, calls = making.write_table, []
def write(table, path):
    calls.append(1)
    real(table, path)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
making.write_table, making.WRITER_THREADS = write, 1
SmallShards(Encoder.open(Path({str(bundle)!r})), Path({str(shards.photos)!r}), Path({str(shards.path)!r})).build()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    done = [name for name in shards.names() if shards.folder.marker(name)]
    assert done == shards.names()[:1]
    assert shards.build().made == 2
    assert shards.files() == whole


def test_a_changed_photo_makes_its_own_shard_anew(shards: SmallShards) -> None:
    shards.build()
    before, names = shards.files(), shards.names()
    paint(shards.photos / "20.png", "red")
    result = shards.build()
    assert (result.made, result.outdated, result.pruned) == (1, 1, 0)
    assert [name for name in shards.names() if name not in names] == [shards.names()[1]]
    result = shards.build(prune=True)
    assert (result.made, result.outdated, result.pruned) == (0, 1, 1)
    kept = {name: raw for name, raw in before.items() if not name.startswith("shard-00001")}
    assert {name: raw for name, raw in shards.files().items() if not name.startswith("shard-00001")} == kept
    assert len(shards.files()) == 6


def test_rejected_photos_are_in_the_marker_and_only_they(shards: SmallShards) -> None:
    (shards.photos / "03.png").write_bytes(b"")
    result = shards.build()
    assert (result.photos, result.rows, result.rejected, result.reasons) == (40, 39, 1, {"empty": 1})
    (rejected,) = shards.folder.rejected()
    assert (rejected.path, rejected.reason) == ("03.png", "empty")
    for marker in shards.path.glob("shard-*.json"):  # as they were written before this key was renamed
        marker.write_text(marker.read_text(encoding="utf-8").replace('"rejected"', '"refused"'), encoding="utf-8")
    assert list(shards.folder.rejected()) == [rejected]
    assert (shards.build().made, shards.build(retry_rejected=True).made) == (0, 1)
    shutil.copy(shards.photos / "04.png", shards.photos / "03.png")
    assert (shards.build().made, shards.build().rejected) == (1, 0)


def test_a_shard_without_a_good_photo_is_done_and_not_imported(shards: SmallShards) -> None:
    for number in range(16):
        (shards.photos / f"{number:02}.png").write_bytes(b"x")
    assert (shards.build().rows, shards.build().made) == (24, 0)
    assert list(shards.folder.check_all()) == shards.names()[1:]


def test_a_photo_that_is_listed_twice_is_taken_once(shards: SmallShards) -> None:
    dataset = shards.photos.parent / "list.csv"
    dataset.write_text("id,path\n1,photos/01.png\n2,photos/02.png\n3,photos/01.png\n")
    result = build_shards(shards.encoder, read("table", dataset), shards.folder, options=ShardOptions(shard_rows=2))
    assert (result.photos, result.rows, result.shards, result.reasons) == (3, 2, 1, {"twice": 1})


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("whose shard rows is 16, not 8", {"shard_rows": 8}),
        ("whose namespace is '', not 'other'", {"namespace": "other"}),
        ("whose code hex is False, not True", {"code_hex": True}),
    ],
)
def test_other_shards_are_not_mixed_in(shards: SmallShards, message: str, change: dict[str, object]) -> None:
    shards.build()
    before = shards.files()
    with pytest.raises(ConfigError, match=message):
        shards.build(**change)  # type: ignore[arg-type]
    assert shards.files() == before


def test_another_model_or_other_photos_are_rejected(shards: SmallShards, tmp_path: Path) -> None:
    shards.build()
    other = Encoder.open(write_small_bundle(tmp_path / "other", seed=1))
    with pytest.raises(ConfigError, match=r"has shards of another model \(lsh, 12 bits\); choose another folder"):
        SmallShards(other, shards.photos, shards.path).build()
    shutil.copytree(shards.photos, tmp_path / "copy")
    with pytest.raises(ConfigError, match="whose source is"):
        SmallShards(shards.encoder, tmp_path / "copy", shards.path).build()


def test_two_runs_at_once_are_rejected(shards: SmallShards) -> None:
    with shards.folder.held(), pytest.raises(ConfigError, match="another process uses the shards"):
        shards.build()


def test_a_run_that_is_asked_to_stop_says_what_is_missing(shards: SmallShards) -> None:
    stop, seen = threading.Event(), 0

    def engine(maker: ShardWriter, tasks: Iterable[ShardTask], tick: Tick) -> Iterator[Marker]:
        def count(photos: int) -> None:
            nonlocal seen
            seen += photos
            if seen > 20:  # in the middle of the second shard
                stop.set()

        return local_engine(maker, tasks, count)

    with pytest.raises(Stopped, match=r"2 of 3 shards are missing\. Build again to continue"):
        shards.build(engine=engine, stop=stop)
    assert (shards.build().made, shards.build().rows) == (2, 40)


def test_what_is_damaged_or_missing_is_seen(shards: SmallShards) -> None:
    with pytest.raises(Inconsistent, match="there are no shards"):
        shards.folder.check_all()
    shards.build()
    first, second = (shards.folder.data(name) for name in shards.names()[:2])
    raw = bytearray(first.read_bytes())
    raw[100] ^= 1
    first.write_bytes(raw)
    with pytest.raises(DataError, match="is not what was written"):
        shards.folder.check_all()
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.raises(Inconsistent, match="2 of 3 shards"):
        shards.folder.check_all()
    assert shards.build().made == 2
    (shards.path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(DataError, match="made by a newer milvus-fghash"):
        shards.build()


def test_a_disk_that_rejects_leaves_nothing(shards: SmallShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "milvus_fghash.bulk_import.shards.writer.write_table", lambda table, path: path.open("x").close() or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        shards.build()
    assert sorted(path.name for path in shards.path.iterdir()) == [".lock", "manifest.json"]
