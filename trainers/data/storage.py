"""Where decoded images are kept: in memory or, of sets that are larger than allowed there, in a file that is mapped."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import PIL

from trainers.data import decoding
from trainers.data.image_set import DataError

# Shapes: N images, C channels, H height, W width.

T = TypeVar("T")
Report = Callable[[str], None]
Shape = tuple[int, int, int, int]
CHUNK = 64  # images that a thread decodes at a time
MOST_LISTED = 20  # images that an error names


def silent(line: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Storage:
    """At most `memory_mb` (MB of 10^6 bytes) of decoded images in memory; more lie in the folder `cache`.

    `report` gets how large a set is before any image is decoded.
    """

    memory_mb: float = 4096
    cache: Path | None = None
    report: Report = silent

    def keep(
        self, shape: Shape, decode: Callable[[int], np.ndarray], key: Callable[[], str] | None = None
    ) -> np.ndarray:
        """uint8 (N, C, H, W), each image (C, H, W) as `decode` gives it by its number; several are decoded at once.

        `key` says what the images are made of; a file is found again by it. Without one it is gone with this process.
        Raises: DataError for images that cannot be read, all of them at once; for want of space, before any is decoded.
        """
        num, _, height, width = shape
        num_bytes = int(np.prod(shape, dtype=np.int64))
        size = f"{num:,} images of {height}x{width}, {num_bytes / 1e6:,.1f} MB decoded"
        if num_bytes <= self.memory_mb * 1e6:
            self.report(f"reading {size}")
            return _decode_into(np.empty(shape, np.uint8), decode)
        if self.cache is None:
            raise DataError(
                f"data.memory_mb: got {self.memory_mb:g}, needs {size}; raise it, or set data.cache to a folder"
            )
        path = self.cache / f"images-{uuid4().hex if key is None else key()}.u8"
        if _is_whole(path, num_bytes):
            self.report(f"reading {size}, from {path}")
            return np.memmap(path, np.uint8, "r", shape=shape)
        self.report(f"reading {size}, more than data.memory_mb={self.memory_mb:g}: into {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _decode_to(path, shape, decode, is_kept=key is not None)
        except OSError as error:
            free = f", {shutil.disk_usage(self.cache).free / 1e6:,.1f} MB are free" if self.cache.is_dir() else ""
            raise DataError(
                f"data.cache: {self.cache} cannot keep {size}: {error.strerror}{free}; set it to another folder, "
                "lower data.image_size or data.limit, or raise data.memory_mb"
            ) from error


IN_MEMORY = Storage()


def _decode_to(path: Path, shape: Shape, decode: Callable[[int], np.ndarray], *, is_kept: bool) -> np.ndarray:
    """The images in a file that is mapped, at `path` once it is whole; a file that is not kept has no name."""
    num_bytes, part = int(np.prod(shape, dtype=np.int64)), path.with_suffix(".part")
    with part.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may be decoding the same images
            if _is_whole(path, num_bytes):
                return np.memmap(path, np.uint8, "r", shape=shape)
            if not is_kept:
                part.unlink()
            os.posix_fallocate(file.fileno(), 0, num_bytes)  # writing through a map on a full disk would be the end
            images = np.memmap(file, np.uint8, "r+", shape=shape)
            _decode_into(images, decode)
            images.flush()
            if is_kept:
                part.replace(path)
            return images
        except BaseException:
            file.truncate(0)  # another process may wait for this very file, so it is not removed
            raise
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # which the map would hold as long as it is there


def decode_files(
    paths: Sequence[Path], image_size: tuple[int, int], storage: Storage, *, channels: int = 3
) -> np.ndarray:
    """Images of files, uint8 (N, C, H, W), RGB or grey, scaled and centre-cropped to `image_size`."""
    decoder = hashlib.sha256(Path(decoding.__file__).read_bytes()).hexdigest()
    return storage.keep(
        (len(paths), channels, *image_size),
        lambda number: decoding.decode_image(paths[number], str(paths[number]), image_size, channels=channels),
        lambda: _digest(paths, image_size, channels, decoder, PIL.__version__),
    )


def _digest(paths: Sequence[Path], *more: object) -> str:
    """sha256 of the bytes of files, in their order, and of what else their decoded images depend on."""

    def digest(start: int) -> bytes:
        return b"".join(hashlib.sha256(_content(path)).digest() for path in paths[start : start + CHUNK])

    content = hashlib.sha256(repr(more).encode())
    for part in _in_threads(digest, len(paths)):
        content.update(part)
    return content.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # which decoding will name, with all others
        return b""


def _is_whole(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _decode_into(images: np.ndarray, decode: Callable[[int], np.ndarray]) -> np.ndarray:
    def decode_chunk(start: int) -> list[str]:
        damaged = []
        for number in range(start, min(start + CHUNK, len(images))):
            try:
                images[number] = decode(number)
            except DataError as error:
                damaged.append(str(error))
        return damaged

    damaged = [line for lines in _in_threads(decode_chunk, len(images)) for line in lines]
    if damaged:
        more = [f"and {len(damaged) - MOST_LISTED} more"] if len(damaged) > MOST_LISTED else []
        listed = "\n  ".join([*damaged[:MOST_LISTED], *more])
        raise DataError(f"{len(damaged)} images cannot be read; repair or remove them:\n  {listed}")
    return images


def _in_threads(work: Callable[[int], T], num: int) -> list[T]:
    """What `work` gives for the start of each chunk. Threads do: Pillow decodes and scales without Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, range(0, num, CHUNK)))
