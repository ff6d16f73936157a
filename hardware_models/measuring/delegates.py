"""Which delegates ran a network, from what a log says of each: asked for, unsupported, applied, and to how many nodes.

What was asked for counts for nothing: a delegate that takes no node leaves the network to the CPU and the log goes on.
Source of the lines: TensorFlow, tensorflow/lite/tools/benchmark/benchmark_tflite_model.cc (2.2 to today), lite/core/
subgraph.cc, lite/delegates/{hexagon,utils}, lite/tools/delegates; LiteRT has the same runtime.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from hardware_models.measuring.log_file import LogLine
from search_spaces.errors import InvalidInputError

Share = Literal["all", "some", "none", "some or none"]

_PARAMETER = re.compile(r"[\w#][\w #()./,'-]*: ?\[.*\]")  # the log says what was asked for
_ASKED = re.compile(r"Use (?:legacy )?(gpu|npu|nnapi|hexagon|xnnpack|coreml) ?: \[1\]", re.IGNORECASE)
_LIBRARY = re.compile(r"External delegate path ?: \[(?:.*[/\\])?([^/\\]+)\]")
_UNSUPPORTED = re.compile(r"(?:Could not create )?(\w+) (?:acceleration is unsupported|delegate: platform may not)")
_NOT_EXECUTED = re.compile(r"Though (\w+) delegate is explicitly applied, the model graph will not be executed")
_EXECUTED = re.compile(
    r"(?:Explicitly a|A)pplied (?:the )?(\w+) delegate, and the model graph will be (completely|partially) "
    r"executed (w/)?"
)
_TAKEN = re.compile(
    r"Replacing (?P<nodes>\d+)(?: out of (?P<of>\d+))? node\(s\) with delegate \((?P<kernel>[^)]+)\)"
    r"|(?:\[.*\] )?(?P<speaker>\w+)(?: delegate)?: (?P<own>\d+) nodes delegated out of (?P<whole>\d+)"
)
_DEFAULT = "Created TensorFlow Lite XNNPACK delegate"
_REFERENCE = "NNAPI accelerators available: [nnapi-reference]"
_BUILT_IN = {  # parts of the names of delegates and of their kernels
    **{"xnnpack": "XNNPACK", "flex": "Flex", "nnapi": "NNAPI", "hexagon": "Hexagon", "coreml": "CoreML"},
    **{"gpu": "GPU", "litert_": "GPU", "dispatch": "NPU"},
}
_ON_CPU = {"XNNPACK", "Flex"}
_FROM_LIBRARY = "EXTERNAL"  # what the tool calls a delegate that a library brings


@dataclass
class _Delegate:
    """What the log says of one delegate; `asked` and `verdict` with the line that says so."""

    asked: int | None = None
    unsupported: bool = False
    verdict: tuple[Share, int] | None = None
    nodes: list[tuple[int, int | None]] = field(default_factory=list)  # taken, of how many

    def share(self, name: str) -> Share | None:
        """How much of the network it ran; nothing if the log does not say. The tool's verdict is the last word."""
        said, line = self.verdict or (None, 0)
        taken = sum(nodes for nodes, _ in self.nodes)
        if said in ("all", "some") and self.nodes and not taken:
            raise InvalidInputError(f"line {line}: {name} runs nodes, another line says none; the log is mixed")
        if said in (None, "some or none") and self.nodes:
            return "none" if not taken else "all" if all(nodes == of for nodes, of in self.nodes) else "some"
        return "none" if said is None and self.unsupported else said


@dataclass(frozen=True, slots=True)
class Ran:
    """Names of what ran a network, nothing for the CPU alone, and of the delegates that were asked for and did not.

    `is_known` is false where no line says what was asked for or ran.
    """

    names: tuple[str, ...]
    missed: tuple[str, ...]
    is_known: bool


def what_ran(lines: Sequence[LogLine]) -> Ran:
    """Raises: InvalidInputError, with the line, if the log leaves open whether a delegate ran."""
    delegates = _delegates(lines)
    shares = {name: delegate.share(name) for name, delegate in delegates.items()}
    problems = list(_undecided(delegates, shares))
    if problems:
        raise InvalidInputError("\n".join(problems))
    ran = [name for name, share in shares.items() if share in ("all", "some")]
    has_default = any(line.message.startswith(_DEFAULT) for line in lines)
    if "all" not in shares.values():
        ran += ["XNNPACK"] if has_default and "XNNPACK" not in shares else []
        ran += ["CPU"] if ran and not _ON_CPU & set(ran) else []
    if any(line.message.startswith(_REFERENCE) for line in lines):  # NNAPI's implementation for the CPU, and no other
        ran = ["NNAPI-reference" if name == "NNAPI" else name for name in ran]
    return Ran(
        names=tuple(ran),
        missed=tuple(name for name, delegate in delegates.items() if delegate.asked and shares[name] == "none"),
        is_known=has_default or bool(delegates) or any(_PARAMETER.fullmatch(line.message) for line in lines),
    )


def _undecided(delegates: dict[str, _Delegate], shares: dict[str, Share | None]) -> Iterator[str]:
    for name, delegate in delegates.items():
        if shares[name] is None and delegate.asked:
            yield f"line {delegate.asked}: {name} is asked for, and no line says whether it ran; give the whole log"
        if shares[name] == "some or none" and delegate.verdict:
            yield (
                f"line {delegate.verdict[1]}: {name} ran some nodes or none, TensorFlow 2.2 says the same of both; "
                "measure with 2.4 or later"
            )


def _delegates(lines: Sequence[LogLine]) -> dict[str, _Delegate]:
    found: dict[str, _Delegate] = {}
    library = _library(lines)

    def named(text: str) -> _Delegate:
        return found.setdefault(name if _is_built_in(name := _name(text)) else library, _Delegate())

    for line in lines:
        if _LIBRARY.match(line.message):
            named(_FROM_LIBRARY).asked = line.number
        elif match := _ASKED.match(line.message):
            named(match[1]).asked = line.number
        elif match := _UNSUPPORTED.match(line.message):
            named(match[1]).unsupported = True
        elif match := _NOT_EXECUTED.match(line.message):
            named(match[1]).verdict = "none", line.number
        elif match := _EXECUTED.match(line.message):
            share: Share = "all" if match[2] == "completely" else "some or none" if match[3] else "some"
            named(match[1]).verdict = share, line.number
        elif match := _TAKEN.match(line.message):
            nodes, of = match["nodes"] or match["own"], match["of"] or match["whole"]
            named(match["kernel"] or match["speaker"]).nodes.append((int(nodes), int(of) if of else None))
    return found


def _library(lines: Sequence[LogLine]) -> str:
    """The name of the delegate from a library: of the library, else of its kernel, else what the tool calls it."""
    paths = (_name(match[1]) for line in lines if (match := _LIBRARY.match(line.message)))
    taken = (match["kernel"] or match["speaker"] for line in lines if (match := _TAKEN.match(line.message)))
    others = (_name(kernel) for kernel in taken if not _is_built_in(_name(kernel)))
    return next(chain(paths, others), _FROM_LIBRARY)


def _is_built_in(name: str) -> bool:
    return name in _BUILT_IN.values()


def _name(text: str) -> str:
    """What a delegate, its kernel or its library is called here, in short."""
    plain = re.sub(r"^lib|[._]so\b.*$|_?delegate.*$", "", text, flags=re.IGNORECASE)
    short = re.sub("TfLite", "", plain, flags=re.IGNORECASE)
    return next((name for part, name in _BUILT_IN.items() if part in text.lower()), short.upper() or text)
