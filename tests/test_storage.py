"""Images that do not fit in memory lie in a mapped file, and are the same to the last bit."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import PARTS, SHARES, encoded, noise, write_folder, write_images
from PIL import Image
from tiny_search import TINY, composed

from trainers.data import decoding
from trainers.data.datasets import DataConfig, ImageData, content_of, load_data
from trainers.data.image_set import DataError
from trainers.data.storage import Storage
from trainers.runs.config import validate
from trainers.search.identification import identified
from trainers.search.run import run

SHAPE = (200, 3, 8, 8)


def config(root: Path, **changed: Any) -> DataConfig:
    given = {"image_size": (16, 16), "shares": SHARES.model_dump(), "flip": True, "shift": 2, **changed}
    return DataConfig(name="image_folder", root=root, **given)


def mapped(root: Path, **changed: Any) -> DataConfig:
    return config(root, memory_mb=0, cache=root.parent / "cache", **changed)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root.parent / "cache").iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", num=150)
    return tmp_path / "images"


def batches(data: ImageData) -> list[torch.Tensor]:
    found = []
    for part in PARTS:
        for augment in (True, False):
            for batch in data.batches(part, batch_size=16, seed=0, epoch=1, augment=augment):
                found += batch
    return found


def test_mapped_images_give_the_same_batches_to_the_bit(root: Path) -> None:
    held, read = load_data(config(root)), load_data(mapped(root))
    assert len(files(root)) == 1
    again = load_data(mapped(root, limit=None))
    expected = batches(held)
    for data in (read, again):
        assert data.record() == held.record() and torch.equal(data.mean, held.mean) and torch.equal(data.std, held.std)
        assert all(torch.equal(one, other) for one, other in zip(expected, batches(data), strict=True))


def test_a_run_is_the_same_wherever_its_images_are_kept(root: Path, tmp_path: Path) -> None:
    folder = ("data=image_folder", f"data.root={root}", f"paths.cache={tmp_path / 'cache'}", "data.image_size=[48,48]")
    tiny = [each for each in TINY if not each.startswith("data.")]
    tiny += ["hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2"]
    keys, results = [], []
    for memory_mb in (4096, 0):
        kept = (f"data.memory_mb={memory_mb}", f"paths.runs={tmp_path / str(memory_mb)}")
        asked = validate(composed(*tiny, *folder, *kept))
        lines: list[str] = []
        search = identified(asked, report=lines.append)
        keys.append(search.run_key)
        results.append(run(search, lines.append))
        assert "300 images" in lines[0] and "2.1 MB" in lines[0]  # 300 * 3 * 48 * 48 bytes
    assert keys[0] == keys[1] and len(list((tmp_path / "cache").glob("images-*.u8"))) == 1
    assert results[0].devices == results[1].devices and results[0].data == results[1].data


def test_a_file_is_found_again_by_the_content_of_its_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, (first,) = content_of(mapped(root)), files(root)
    decoded: list[str] = []
    decode = decoding.decode_image

    def counted(source: Path, where: str, image_size: tuple[int, int], *, channels: int) -> np.ndarray:
        decoded.append(where)
        return decode(source, where, image_size, channels=channels)

    monkeypatch.setattr(decoding, "decode_image", counted)
    assert content_of(mapped(root)) == content and decoded == []
    held = config(root)
    assert load_data(held.model_copy(update={"content": content_of(held)}), image_size=(16, 16)).image_size == (16, 16)
    assert len(decoded) == 300  # once for the content; what has the size that is asked for is not decoded again
    decoded.clear()
    write_folder(root, {"ant/0.png": encoded(noise(24, 36, 3, seed=999), "PNG")})
    assert content_of(mapped(root)) != content and len(decoded) == 300
    assert content_of(mapped(root, image_size=(8, 8))) != content
    assert content_of(mapped(root, limit=100)) != content
    assert len(files(root)) == 4 and first in files(root)
    (root.parent / "cache" / first).write_bytes(b"torn")
    write_images(root, num=1)
    assert content_of(mapped(root)) == content


def test_sizes_are_told_before_an_image_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    def first(source: Path, where: str, image_size: tuple[int, int], *, channels: int) -> np.ndarray:
        assert len(lines) == 1 and "300 images of 16x16" in lines[0] and "0.2 MB" in lines[0]
        return np.zeros((3, *image_size), np.uint8)

    monkeypatch.setattr(decoding, "decode_image", first)
    for asked in (config(root), mapped(root)):
        lines.clear()
        content_of(asked, lines.append)
        assert len(lines) == 1


def test_damaged_images_are_named_and_leave_no_file(root: Path) -> None:
    (root / "ant" / "3.png").write_bytes(b"<html>")
    (root / "bee" / "149.png").write_bytes(b"")
    with pytest.raises(DataError) as refused:
        content_of(mapped(root))
    assert "ant/3.png" in str(refused.value) and "bee/149.png" in str(refused.value)
    assert [path.stat().st_size for path in (root.parent / "cache").iterdir()] == [0]


def never(number: int) -> np.ndarray:
    return pytest.fail("an image was decoded")


def test_without_room_nothing_is_decoded(small_disk: Path) -> None:
    large = (1000, 3, 256, 256)  # 197 MB on a disk of 64
    with pytest.raises(DataError) as refused:
        Storage(1, small_disk / "cache").keep(large, never, lambda: "key")
    assert refused.value.fields == ("data.cache",) and "196.6 MB" in str(refused.value)
    assert sum(path.stat().st_size for path in (small_disk / "cache").iterdir()) == 0
    with pytest.raises(DataError) as refused:
        Storage(1).keep(large, never)
    assert refused.value.fields == ("data.memory_mb",)
    (small_disk / "file").touch()
    with pytest.raises(DataError) as refused:
        Storage(1, small_disk / "file").keep(large, never)
    assert refused.value.fields == ("data.cache",)


def numbered(number: int) -> np.ndarray:
    return np.full(SHAPE[1:], number, np.uint8)


def test_images_without_a_key_leave_no_file(tmp_path: Path) -> None:
    images = Storage(0, tmp_path / "cache").keep(SHAPE, numbered)
    assert isinstance(images, np.memmap) and list((tmp_path / "cache").iterdir()) == []
    assert images[:, 0, 0, 0].tolist() == list(range(200))


def test_two_at_once_decode_once(tmp_path: Path) -> None:
    decoded: list[int] = []

    def counted(number: int) -> np.ndarray:
        decoded.append(number)
        return numbered(number)

    def keep(_: int) -> np.ndarray:
        return Storage(0, tmp_path).keep(SHAPE, counted, lambda: "key")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(keep, range(4)))
    assert sorted(decoded) == list(range(200))
    assert all((images[:, 0, 0, 0] == np.arange(200)).all() for images in found)


@pytest.mark.parametrize("stops", [KeyboardInterrupt, DataError])
def test_what_is_cut_short_is_begun_again_also_by_one_that_waits(tmp_path: Path, stops: type[BaseException]) -> None:
    tries: list[int] = []

    def keep(_: int) -> np.ndarray | None:
        def decode(number: int) -> np.ndarray:
            tries.append(number)
            if len(tries) == 150:
                raise stops
            return numbered(number)

        try:
            return Storage(0, tmp_path).keep(SHAPE, decode, lambda: "key")
        except stops:
            return None

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(keep, range(2)))
    (images,) = (each for each in found if each is not None)
    assert (images[:, 0, 0, 0] == np.arange(200)).all()


LIMITED = """
import resource, sys
from pathlib import Path
from trainers.data.datasets import DataConfig, load_data

shares = {"weights": 0.5, "architecture": 0.25, "validation": 0.25, "test": 0.2}
config = DataConfig(
    name="image_folder", root=Path(sys.argv[1]), image_size=(256, 256), shares=shares, flip=True, shift=2,
    memory_mb=float(sys.argv[2]), cache=Path(sys.argv[3]),
)
(used,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData:")]
resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 98_000_000,) * 2)  # what files are mapped does not count
data = load_data(config)
images = sum(len(y) for _, y in data.batches("weights", batch_size=4, seed=0, epoch=0, augment=True))
print(images, round(data.size_mb))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits what is allocated")
def test_a_set_larger_than_the_memory_is_read_and_gives_batches(tmp_path: Path) -> None:
    """1,000 images are 197 MB decoded; half of that may be allocated."""
    for number in range(1000):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(8, 8, 3, seed=number)).save(path)

    def limited(memory_mb: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, tmp_path / "images", str(memory_mb), tmp_path / "cache"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = limited(50)
    assert (done.returncode, done.stdout.split()) == (0, ["400", "197"]), done.stderr
    assert "MemoryError" in limited(4096).stderr
