"""Images listed in a CSV file: a path and a label each, and the part that it belongs to where there are parts."""

import csv
from pathlib import Path

import numpy as np

from trainers.data.decoding import check_channels, decode_image
from trainers.data.image_folder import natural
from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set
from trainers.data.storage import IN_MEMORY, Storage, decode_files

FILE = "labels.csv"
PARTS = {"": "train", "train": "train", "test": "test"} | dict.fromkeys(("val", "valid", "validation"), "validation")


def read_csv(
    root: Path,
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    subset: Subset = EVERYTHING,
    storage: Storage = IN_MEMORY,
) -> ImageSet:
    """RGB or grey images of the CSV file `root`, or `root/labels.csv`, with columns `path`, `label` and perhaps `part`.

    Paths begin at the folder of the file. A part is `train`, `val` or `test`; without the column there are none.
    Classes stand in the order of their names, numbers by their values.
    Raises: DataError for a line that cannot be used, by its number.
    """
    check_channels(channels)
    file = root / FILE if root.is_dir() else root
    rows = _rows(file)
    classes = sorted({label for _, label, _ in rows}, key=natural)
    if len(classes) < 2:
        raise DataError(f"{file}: found labels {classes}, needs two or more")
    number_of = {name: number for number, name in enumerate(classes)}
    paths = [file.parent / path for path, _, _ in rows]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{file}: {len(missing)} of its paths are no files, first {missing[0]}; they begin at {file.parent}"
        )
    parts_N = np.array([part for _, _, part in rows])
    return image_set(
        file.stem if root == file else root.name,
        np.array([number_of[label] for _, label, _ in rows]),
        parts_N == "test" if "test" in parts_N else None,
        classes,
        f"images of {file}",
        subset,
        lambda indices_N: decode_files([paths[i] for i in indices_N], image_size, storage, channels=channels),
        is_validation_N=parts_N == "validation" if "validation" in parts_N else None,
        original=lambda i: decode_image(paths[i], str(paths[i]), channels=channels).transpose(1, 2, 0),
    )


def _rows(file: Path) -> list[tuple[str, str, str]]:
    """Path, label and part of each line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lacking = {"path", "label"} - set(reader.fieldnames or ())
            if lacking:
                raise DataError(
                    f"{file}: has columns {reader.fieldnames}, lacks {sorted(lacking)}; name them in line 1"
                )
            return [_row(line, f"{file}, line {reader.line_num}") for line in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{file} cannot be read: {error}; set data.root to a CSV file, or to a folder with {FILE}"
        ) from error


def _row(line: dict[str, str | None], where: str) -> tuple[str, str, str]:
    path, label, part = line["path"], line["label"], (line.get("part") or "").strip().lower()
    if not path or not label:
        raise DataError(f"{where}: got path {path!r} and label {label!r}; give both")
    if part not in PARTS:
        raise DataError(f"{where}: got part {part!r}, allowed: {', '.join(filter(None, PARTS))}")
    return path, label, PARTS[part]
