"""Spoken keywords: their features, parts and classes, and what training clips are shifted and hidden by."""

import csv
import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import real

from trainers.data.augmentation import Moves, draw_moves, moved, shown
from trainers.data.datasets import data_config, load_data
from trainers.data.image_set import DataError
from trainers.data.keywords import CLIP, PACKED, part_of, read_keywords
from trainers.data.log_mel import RATE, levels, log_mel

SHARES = {"weights": 0.5, "architecture": 0.25, "validation": 0.25}


def write_wav(path: Path, samples: np.ndarray, *, rate: int = RATE, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def sound(seed: int, samples: int = CLIP) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, samples)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Four words of 40 speakers each."""
    for place, word in enumerate(("yes", "no", "bird", "cat")):
        for speaker in range(40):
            write_wav(tmp_path / word / f"{speaker:08x}_nohash_{place}.wav", sound(40 * place + speaker))
    return tmp_path


def test_levels_are_those_of_the_published_features_of_the_same_clips() -> None:
    """On 120 clips of Speech Commands v2, features made by MLPerf Tiny's recipe with other code."""
    folder = real("kws") / "kws"
    with np.load(folder / PACKED) as stored, zipfile.ZipFile(folder / "kws_wav_120.zip") as archive:
        expected = stored["logmel"]
        index = next(name for name in archive.namelist() if name.endswith("index.csv"))
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open(index), encoding="utf-8")))
        assert len(rows) == 120
        for row in rows:
            with wave.open(archive.open(f"kws_wav_120/{row['file']}")) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            found = levels(log_mel(np.pad(samples, (0, CLIP - len(samples)))))
            assert np.abs(found.astype(int) - expected[int(row["row_in_npz"])]).max() <= 1


def test_packed_file_has_its_own_parts_of_other_speakers() -> None:
    folder = real("kws")
    keywords = read_keywords(folder)
    assert keywords.images.shape == (4890, 1, 49, 40) and keywords.num_classes == 12
    assert keywords.is_test is not None and keywords.is_validation is not None
    assert (int(keywords.is_test.sum()), int(keywords.is_validation.sum())) == (739, 739)
    with np.load(folder / "kws" / PACKED) as stored:
        speakers = stored["speaker"]
    spoken = speakers != ""
    test, rest = (set(speakers[spoken & mask.numpy()]) for mask in (keywords.is_test, ~keywords.is_test))
    assert test and not test & rest


def test_speakers_of_a_folder_are_in_one_part(words: Path) -> None:
    keywords = read_keywords(words)
    assert keywords.classes == ("bird", "cat", "no", "yes") and keywords.images.shape == (160, 1, 49, 40)
    assert keywords.is_test is not None and keywords.is_validation is not None
    speakers = np.array([path.name[:8] for word in keywords.classes for path in sorted((words / word).iterdir())])
    parts = keywords.is_test.long() + 2 * keywords.is_validation.long()
    for speaker in set(speakers):
        assert len(set(parts[torch.from_numpy(speakers == speaker)].tolist())) == 1
    assert len(set(parts.tolist())) == 3
    assert part_of(Path("a_nohash_0.wav")) == part_of(Path("a_nohash_7.wav"))


def test_other_words_are_one_class_of_usual_size_and_noise_is_silence(words: Path) -> None:
    write_wav(words / "_background_noise_" / "kitchen.wav", sound(1, 60 * CLIP))
    keywords = read_keywords(words, words=["yes", "no"])
    assert keywords.classes == ("yes", "no", "_unknown_", "_silence_")
    assert keywords.labels.bincount().tolist() == [40, 40, 40, 40]


def test_clips_are_padded_and_cropped_to_a_second(words: Path) -> None:
    short, long = words / "yes" / "aa_nohash_0.wav", words / "yes" / "ab_nohash_0.wav"
    write_wav(short, np.full(CLIP // 2, 5000))
    write_wav(long, np.concatenate([np.zeros(CLIP), np.full(CLIP, 5000), np.zeros(CLIP)]))
    keywords = read_keywords(words)
    order = sorted((words / "yes").iterdir())
    first = 40 * 3
    quiet = keywords.images[first + order.index(short), 0].float().mean(1)
    assert quiet[:10].max() < quiet[24] > quiet[-10:].max()
    loud = keywords.images[first + order.index(long), 0].float()
    torch.testing.assert_close(loud, loud[:1].expand_as(loud), atol=1, rtol=0)  # nothing but the middle second


@pytest.mark.parametrize("kind", ["rate", "channels", "no wav"])
def test_files_that_are_no_clips_are_named(words: Path, kind: str) -> None:
    path = words / "yes" / "zz_nohash_0.wav"
    if kind == "no wav":
        path.write_bytes(b"RIFF")
    else:
        write_wav(path, sound(0), **{"rate": 8000} if kind == "rate" else {"channels": 2})
    with pytest.raises(DataError, match="zz_nohash_0"):
        read_keywords(words)


def test_words_that_are_not_there_and_folders_without_clips_are_refused(words: Path) -> None:
    with pytest.raises(DataError, match="maybe"):
        read_keywords(words, words=["yes", "maybe"])
    with pytest.raises(DataError, match="no keywords"):
        read_keywords(words / "yes")


def test_a_search_gets_clips_of_the_configuration(words: Path) -> None:
    given = {"name": "kws", "root": str(words), "image_size": None, "shares": SHARES, "flip": False}
    config = data_config({**given, "shift": [5, 0], "mask": [8, 6], "words": ["yes", "no"]})
    data = load_data(config)
    assert data.classes == ("yes", "no", "_unknown_")
    images, _ = next(data.batches("weights", batch_size=8, seed=0, epoch=0, augment=True))
    assert images.shape == (8, 1, 49, 40)
    plain, _ = next(data.batches("weights", batch_size=8, seed=0, epoch=0, augment=False))
    assert (images == 0).any() and not (plain == 0).any()


@pytest.mark.parametrize(("key", "value"), [("shift", [25, 0]), ("mask", [0, 40]), ("shift", [-1, 0])], ids=str)
def test_shifts_and_masks_that_leave_nothing_are_refused(key: str, value: list[int]) -> None:
    given = {"name": "kws", "root": ".", "image_size": [49, 40], "shares": SHARES, "flip": False, "shift": [5, 0]}
    with pytest.raises(ValueError, match=key):
        data_config({**given, key: value})


def test_shift_of_rows_alone_and_masks_of_both_axes() -> None:
    moves = Moves((3, 0), flip=False, mask=(4, 2))
    drawn = draw_moves(moves, 200, torch.Generator().manual_seed(0))
    images = torch.arange(12).view(1, 1, 12, 1).expand(200, 1, 12, 10) + 1.0
    shifted = moved(images, moves, drawn)[..., 0]
    assert (shifted == shifted[:, :, :1]).all()  # no column moved
    assert {int(each) for each in shifted[:, 6, 0]} == set(range(4, 11))
    seen = shown(drawn, 12, 10)[..., 0]
    rows, columns = 12 - seen.amax(2).sum(1), 10 - seen.amax(1).sum(1)
    assert {int(each) for each in rows} == set(range(5)) and {int(each) for each in columns} == set(range(3))
    assert {int(each) for each in (seen.amax(2) == 0).nonzero()[:, 1]} == set(range(12))
