"""How well a look-up table prices blocks that it does not hold: the phones' block table, a tenth of it held out.

    python tests/benchmarks/table_interpolation.py [--seeds 10]

Held out at random, and by pairs of input and output channels that no remaining block of the kind has (a tenth of the
pairs of each kind, at least one). Prints the mean absolute percentage error (MAPE) by phone and kind, with its standard
deviation over the seeds, the count of held-out blocks, and how many of them the table refused to price because they are
beyond its entries. Reads the data folder at $ESPALIER_DATA, or `shared/data` beside the repository.
"""

import argparse
import csv
import gzip
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware_models.importers.phones import import_phones
from hardware_models.latency_models.interpolation import Entry, LookUpTable
from search_spaces.operation import Operation

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
PHONES = ("pixel1", "pixel4", "pixel6", "xiaomi11")
HELD_OUT = 0.1
GOALS = {"at random": 0.03, "by unseen (cin, cout)": 0.08}  # MAPE on each phone

# What a price is interpolated over, by kind; attention blocks by the heads of 16 channels too.
SIZES = dict.fromkeys(("conv", "transds", "mbpool"), ("hw", "cin", "cout", "expand"))
SIZES |= {"firstconv": ("hw", "cin", "cout"), "transffn": ("hw", "cin", "expand"), "transattn": ("hw", "cin")}


@dataclass(frozen=True)
class PhoneBlock:
    """A measured block: its key, its place in a table, and its operations, none where a space has no such ones."""

    name: str
    entry: Entry
    operations: tuple[Operation, ...]


Split = Callable[[Sequence[PhoneBlock], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Result:
    """Relative errors of the held-out blocks that were priced, their kinds, and how many of each kind were refused."""

    errors: np.ndarray
    kinds: np.ndarray
    refused: dict[str, int]

    def mape(self, kind: str | None = None) -> float:
        errors = self.errors if kind is None else self.errors[self.kinds == kind]
        return float(errors.mean()) if len(errors) else float("nan")


def phone_blocks(phone: str) -> Sequence[PhoneBlock]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phones4_block_lut.csv"
        path.write_bytes(gzip.decompress((DATA / "latency" / "phones4_block_lut.csv.gz").read_bytes()))
        operations = {row.name: row.operations for row in import_phones(path, device=phone).rows}
        with path.open(encoding="utf-8") as file:
            return [
                PhoneBlock(cells["key"], _entry(cells, phone), operations.get(cells["key"], ()))
                for cells in csv.DictReader(file)
            ]


def _entry(cells: Mapping[str, str], phone: str) -> Entry:
    category = (cells["kind"], *(cells[column] for column in ("kernel", "stride", "se")))
    sizes = [float(cells[column]) for column in SIZES[cells["kind"]]]
    if cells["kind"] == "transattn":
        sizes += [max(1, int(cells["cin"]) // 16), float(cells["v_scale"])]
    return Entry(category, tuple(sizes), float(cells[f"ms_{phone}"]))


def kind(block: PhoneBlock) -> str:
    return str(block.entry.category[0])


def channels(block: PhoneBlock) -> tuple[str, str]:
    """Kind, and input and output channels as the table's key has them; blocks with one number keep it."""
    fields = block.name.split("_")
    numbers = {"conv": 2, "transds": 2, "firstconv": 2, "mbpool": 2, "transattn": 1, "transffn": 1}[fields[0]]
    return fields[0], "_".join(fields[2 : 2 + numbers])


def random_split(blocks: Sequence[PhoneBlock], random: np.random.Generator) -> np.ndarray:
    """Which blocks are held out."""
    return random.random(len(blocks)) < HELD_OUT


def pair_split(blocks: Sequence[PhoneBlock], random: np.random.Generator) -> np.ndarray:
    """Which blocks are held out: all of a kind that have one of the pairs drawn for it."""
    drawn: set[tuple[str, str]] = set()
    pairs = sorted({channels(block) for block in blocks})
    for name in sorted({pair[0] for pair in pairs}):
        own = [pair for pair in pairs if pair[0] == name]
        chosen = random.choice(len(own), max(1, round(HELD_OUT * len(own))), replace=False)
        drawn |= {own[i] for i in chosen}
    return np.array([channels(block) in drawn for block in blocks])


SPLITS: dict[str, Split] = {"at random": random_split, "by unseen (cin, cout)": pair_split}


def held_out_result(blocks: Sequence[PhoneBlock], split: str, seed: int) -> Result:
    """Errors of a table of the remaining blocks on those held out."""
    is_held_out = SPLITS[split](blocks, np.random.default_rng(seed))
    table = LookUpTable(block.entry for block, out in zip(blocks, is_held_out, strict=True) if not out)
    errors, kinds, refused = [], [], dict.fromkeys(sorted(map(kind, blocks)), 0)
    for block in (block for block, out in zip(blocks, is_held_out, strict=True) if out):
        price = table.price_ms(block.entry.category, block.entry.sizes)
        if price is None:
            refused[kind(block)] += 1
            continue
        errors.append(abs(price / block.entry.ms - 1))
        kinds.append(kind(block))
    return Result(np.array(errors), np.array(kinds), refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    start, priced = time.perf_counter(), 0
    blocks = {phone: phone_blocks(phone) for phone in PHONES}
    kinds = sorted(set(map(kind, blocks[PHONES[0]])))
    for split, goal in GOALS.items():
        print(f"\nheld out {split}: MAPE in %, mean ± deviation over {len(seeds)} seeds; asked: at most {goal:.0%}")
        print(f"{'phone':10}{'all':>14}" + "".join(f"{name:>14}" for name in kinds) + f"{'held out':>10}{'refused':>9}")
        for phone in PHONES:
            results = [held_out_result(blocks[phone], split, seed) for seed in seeds]
            cells = [_cell([result.mape(name) for result in results]) for name in (None, *kinds)]
            counts = [len(result.errors) for result in results], [sum(result.refused.values()) for result in results]
            total = np.mean(counts[0]) + np.mean(counts[1])
            priced += sum(counts[0])
            print(f"{phone:10}" + "".join(f"{cell:>14}" for cell in cells) + f"{total:10.0f}{np.mean(counts[1]):9.1f}")
    print(f"\n{priced:,} prices and {2 * len(PHONES) * len(seeds)} tables in {time.perf_counter() - start:.0f} s")


def _cell(values: Sequence[float]) -> str:
    """Mean and deviation in percent over the seeds that held out such blocks and priced them."""
    known = [100 * value for value in values if value == value]
    return f"{np.mean(known):.2f} ± {np.std(known):.2f}" if known else "none"


if __name__ == "__main__":
    main()
