"""Spoken keywords: a folder of wav files for each word, or one file of log-mels; a clip is a map of one channel."""

import hashlib
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from trainers.data import log_mel
from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set, key_generator, require_folder
from trainers.data.readers import BROKEN_ARCHIVE
from trainers.data.storage import IN_MEMORY, Storage

# Shapes: N clips, F frames, B bands, S samples.

PACKED = "kws_logmel_u8_49x40.npz"
CLIP = log_mel.RATE  # samples: one second
UNKNOWN, SILENCE = "_unknown_", "_silence_"
NOISE = "_background_noise_"  # a folder of long recordings, as Speech Commands has it; one-second cuts are silence
PARTS = ("train", "validation", "test")
HELD_OUT = {"validation": 0.1, "test": 0.1}  # of the speakers; Speech Commands' own shares


def read_keywords(
    root: Path, *, words: Sequence[str] | None = None, subset: Subset = EVERYTHING, storage: Storage = IN_MEMORY
) -> ImageSet:
    """Clips of one second as log-mels, uint8 (N, 1, frames, bands): see `log_mel.levels`.

    From `root` or `root/kws`: the packed file, else `<word>/*.wav` of 16 kHz, one channel, 16 bits; shorter clips are
    padded, longer ones cropped, both at the ends. Words other than `words` are one class, `_unknown_`, of as many clips
    as a word has in the mean. Who speaks is what stands before `_nohash_` in a file's name, or the name: nobody is in
    two of the parts train, validation and test.
    Raises: DataError for what cannot be read, all damaged files at once.
    """
    require_folder(root)
    for folder in (root, root / "kws"):
        if (folder / PACKED).is_file():
            return _read_packed(folder / PACKED, words, subset)
        if any(folder.glob("*/*.wav")):
            return _read_folder(folder, words, subset, storage)
    raise DataError(f"no keywords in {root} or {root / 'kws'}; put <word>/*.wav for each word there, or {PACKED}")


def _read_packed(path: Path, words: Sequence[str] | None, subset: Subset) -> ImageSet:
    if words is not None:
        raise DataError(f"data.words: got {list(words)}, but {path} has classes of its own; leave it out")
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, labels_N, part_N = stored["label_names"], stored["label"], stored["split"]
            maps_N1FB = stored["logmel"][:, None]
            scales = float(stored["scale"]), float(stored["offset"])
    except (*BROKEN_ARCHIVE, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    if not np.allclose(scales, (log_mel.STEP, log_mel.OFFSET), atol=1e-3):
        raise DataError(f"{path}: its levels have step and offset {scales}, need {(log_mel.STEP, log_mel.OFFSET)}")
    return image_set(
        "kws",
        labels_N,
        part_N == PARTS.index("test"),
        [str(name) for name in names],
        f"keywords {path}",
        subset,
        maps_N1FB.__getitem__,
        is_validation_N=part_N == PARTS.index("validation"),
    )


def _read_folder(folder: Path, words: Sequence[str] | None, subset: Subset, storage: Storage) -> ImageSet:
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.wav")))
    spoken = [name for name in found if name != NOISE]
    absent = sorted(set(words or ()) - set(spoken))
    if absent:
        raise DataError(f"data.words: got {absent}, {folder} has {', '.join(spoken)}")
    chosen = spoken if words is None else [*words, *(name for name in (SILENCE, UNKNOWN) if name in spoken)]
    others = [name for name in spoken if name not in chosen]
    clips = {name: [(path, 0) for path in sorted((folder / name).glob("*.wav"))] for name in chosen}
    size = round(np.mean([len(clips[name]) for name in (words or chosen)]))
    if others:
        rest = [(path, 0) for name in others for path in sorted((folder / name).glob("*.wav"))]
        clips[UNKNOWN] = [*clips.get(UNKNOWN, []), *_drawn(rest, size - len(clips.get(UNKNOWN, [])), subset.seed)]
    if NOISE in found and SILENCE not in clips:
        cuts = [(path, start) for path in sorted((folder / NOISE).glob("*.wav")) for start in _starts(path)]
        clips[SILENCE] = _drawn(cuts, size, subset.seed)
    if len(clips) < 2:
        raise DataError(f"{folder}: found words {list(clips)}, needs two or more; make one folder a word")
    listed = [(clip, label) for label, name in enumerate(clips) for clip in clips[name]]
    parts_N = np.array([part_of(path, start) for (path, start), _ in listed])

    def decode(indices_N: np.ndarray) -> np.ndarray:
        shape = (len(indices_N), 1, log_mel.frames(CLIP), log_mel.BANDS)
        return storage.keep(shape, lambda n: log_mel.levels(log_mel.log_mel(_samples(*listed[indices_N[n]][0])))[None])

    return image_set(
        folder.name,
        np.array([label for _, label in listed]),
        parts_N == "test",
        list(clips),
        f"keywords {folder}",
        subset,
        decode,
        is_validation_N=parts_N == "validation",
    )


def part_of(path: Path, start: int = 0) -> str:
    """Train, validation or test: a function of who speaks, or of which second of a recording it is."""
    speaker = path.name.partition("_nohash_")[0] + (f" {start}" if start else "")
    place = int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:8], "big") / 2**64
    if place < HELD_OUT["test"]:
        return "test"
    return "validation" if place < sum(HELD_OUT.values()) else "train"


def _drawn(clips: Sequence[tuple[Path, int]], num: int, seed: int) -> list[tuple[Path, int]]:
    import torch

    order = torch.randperm(len(clips), generator=key_generator("keywords", seed)).tolist()
    return [clips[k] for k in sorted(order[: max(0, num)])]


def _starts(path: Path) -> range:
    with _opened(path) as file:
        return range(0, max(1, file.getnframes() - CLIP + 1), CLIP)


def _samples(path: Path, start: int) -> np.ndarray:
    """One second of a file from a sample on, int16 (S,)."""
    with _opened(path) as file:
        if start:
            file.setpos(start)
        samples_S = np.frombuffer(file.readframes(CLIP if start else file.getnframes()), "<i2")
    if start or len(samples_S) > CLIP:
        ahead = 0 if start else (len(samples_S) - CLIP) // 2
        samples_S = samples_S[ahead : ahead + CLIP]
    missing = CLIP - len(samples_S)
    return np.pad(samples_S, (missing // 2, missing - missing // 2))


@contextmanager
def _opened(path: Path) -> Iterator[wave.Wave_read]:
    try:
        with wave.open(str(path), "rb") as file:
            got = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
            if got != (log_mel.RATE, 1, 16):
                needed = f"needs {log_mel.RATE} Hz, 1 and 16"
                raise DataError("{} has {} Hz, {} channels, {} bits; {}".format(path, *got, needed))
            yield file
    except (OSError, EOFError, ValueError, wave.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as a wav file ({error})") from error
