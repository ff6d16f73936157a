"""The table of profiles in hardware_models/README.md says what the files say."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "hardware_models" / "README.md"
COLUMNS = (
    *("profile", "device", "runtime", "threads", "precision"),
    *("error: mean, median", "within 20 %", "rank corr.", "n", "bound"),
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def row(path: Path) -> str:
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    threads = profile["threads"] or "not stated"
    cells = [f"`{path.stem}`", profile["title"], profile["runtime"], threads, profile["precision"]]
    error, bound = profile.get("error"), profile.get("bound")
    if error is None:
        cells += ["unknown", "", "", "", ""]
    else:
        cells += [
            f"{error['mape']:.1%}, {error['median_ape']:.1%}".replace("%", " %"),
            f"{error['within_20_share']:.0%}".replace("%", " %"),
            f"{error['spearman']:.2f}",
            f"{error['n']:,}",
            "of blocks" if bound.get("subject") == "block" else f"{bound['factor']:.3f}",
        ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table() -> str:
    files = sorted(path for path in (ROOT / "conf" / "hardware").glob("*.yaml") if path.stem != "host")
    return "\n".join([HEAD, *(row(path) for path in files)])


def test_the_table_of_profiles_is_that_of_the_files() -> None:
    text = README.read_text(encoding="utf-8")
    shown = text.partition("<!-- profiles -->\n")[2].partition("\n<!-- /profiles -->")[0]
    assert shown == table(), f"put this between the markers:\n{table()}"
