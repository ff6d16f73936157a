"""What training leaves to choose networks by: the supernet and each device's logits, in memory and in a run folder."""

# Shapes: D devices, N choices of all decisions.

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from hardware_models.budgets.cost_table import Array
from hardware_models.placement.placed_space import PlacedSupernet
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular
from search_spaces.space import Supernet
from trainers.runs.files import read_as, write_bytes, write_text
from trainers.runs.lineage import read_lineage
from trainers.runs.result import SCHEMA, Result
from trainers.runs.result_parts import Part
from trainers.search.module import SearchModule
from trainers.search.provenance import weights_digest
from trainers.search.search_state import SearchState

WEIGHTS, STATE = SUPERNET_FILES = ("supernet/weights.safetensors", "supernet/state.json")
LOGITS = ("shared", "offsets")  # tensors (N,) and (D, N) of the first file, beside the weights


@dataclass(frozen=True)
class Trained:
    """A trained supernet with the logits (N,) of each device.

    `numbers` set the random draws of devices apart. `module` has trained it, unless another run did; then `stale` are
    the choices of each decision that its pruning had removed on all devices.
    """

    id: str
    supernet: Supernet
    logits: Sequence[Array]
    numbers: Sequence[int]
    module: SearchModule | None = None
    stale: Mapping[str, Sequence[Any]] | None = None


class KeptDevice(Part):
    """The choices of a device that were active when training ended, by decision, and its incumbent.

    `asked` is the hash of its profile, budgets and margin.
    """

    active: dict[str, list[int]]
    incumbent: list[int]
    asked: str


class KeptState(Part):
    """Content of state.json: `id` is the digest of the supernet's weights, `decisions` name the axis of the logits."""

    schema_: Literal[1] = Field(alias="schema")
    id: str
    step: int
    decisions: dict[str, list[int | float | str]]
    devices: dict[str, KeptDevice]


@dataclass(frozen=True)
class Kept:
    """A supernet as a run keeps it."""

    state: KeptState
    weights: Mapping[str, Tensor]
    shared_N: Tensor
    offsets_DN: Tensor


def trained_by(module: SearchModule) -> Trained:
    devices = range(len(module.state.problems))
    logits = [module.logits_of(device) for device in devices]
    return Trained(weights_digest(module.supernet), module.supernet, logits, devices, module)


def asked_of(mapping: Mapping[str, Any], *, margin: str) -> str:
    """A hash of what a search asks of a device."""
    return hashlib.sha256(json.dumps([mapping, margin], sort_keys=True).encode()).hexdigest()


def keep_supernet(folder: Path, trained: Trained, state: SearchState, *, asked: Mapping[str, str]) -> None:
    """Writes the supernet, its logits and the state of its search into a run folder; nothing in them is executed."""
    assert trained.module is not None
    parameters = trained.module.parameters_of_architecture
    tensors = {
        f"supernet.{name}": value.contiguous() for name, value in own_part(trained.supernet).state_dict().items()
    }
    tensors |= {f"logits.{name}": getattr(parameters, name).detach().contiguous() for name in LOGITS}
    write_bytes(folder / WEIGHTS, safetensors.torch.save(tensors, {"supernet": trained.id}))
    kept = KeptState(
        schema=SCHEMA,
        id=trained.id,
        step=state.step,
        decisions={decision.name: list(decision.choices) for decision in state.table.space.decisions},
        devices={
            problem.name: KeptDevice(
                active=state.active_of([device]),
                incumbent=[int(k) for k in state.survivors[device].incumbent],
                asked=asked[problem.name],
            )
            for device, problem in enumerate(state.problems)
        },
    )
    write_text(folder / STATE, kept.to_json())


def read_supernet(folder: Path, result: Result) -> Kept:
    """The supernet that a run keeps. Raises: InvalidInputError if it keeps none, or not the one of its result."""
    missing = [name for name in SUPERNET_FILES if name not in result.files]
    parent = read_lineage(folder / "lineage.json").supernet.parent if missing else None
    if parent is not None:
        raise InvalidInputError(
            f"{folder} was derived itself and keeps no supernet; derive from its parent, {parent.run}"
        )
    if missing:
        raise InvalidInputError(
            f"{folder} keeps no supernet, and without its weights nothing can be derived; search again and keep it:\n"
            f"  {result.command} trainer.keep=supernet"
        )
    try:
        check_regular(folder / WEIGHTS)
        content = (folder / WEIGHTS).read_bytes()
        digests = {WEIGHTS: content, STATE: (folder / STATE).read_bytes()}
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"cannot read the supernet of {folder}: {error}; search again to make it") from error
    for name, found in digests.items():
        if hashlib.sha256(found).hexdigest() != result.files[name]:
            raise InvalidInputError(
                f"{folder / name} was changed after it was written: its hash is not that of result.json; put it back, "
                "or delete the run folder and search again"
            )
    state = read_as(folder / STATE, KeptState)
    try:
        tensors = safetensors.torch.load(content)
        weights = {name.removeprefix("supernet."): t for name, t in tensors.items() if name.startswith("supernet.")}
        return Kept(state, weights, *(tensors[f"logits.{name}"] for name in LOGITS))
    except (SafetensorError, LookupError) as error:
        raise InvalidInputError(f"{folder / WEIGHTS} holds no supernet with logits: {error}") from error


def own_part(supernet: Supernet) -> Supernet:
    """The supernet without the placement of its parts, which has no weights."""
    return supernet.base if isinstance(supernet, PlacedSupernet) else supernet
