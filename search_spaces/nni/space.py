"""The space `nni`: any model space written for nni, by the path of its class."""

import inspect
import logging
import warnings
from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from search_spaces.marked.marks import building, current_builder
from search_spaces.marked.part import part_of
from search_spaces.marked.user_module import ModuleSpace
from search_spaces.registry import OWN_PACKAGES
from search_spaces.space import Choice, Supernet

EXAMPLE = "search_spaces.nni.small_networks:SmallNetworks"
HUB = "nni.nas.hub.pytorch"


class NniSpace(ModuleSpace):
    """`target` is a class of nni's `ModelSpace`, of its hub or as `my_module:MySpace`; called as by `ModuleSpace`.

    Decisions have the labels of nni's mutables. Networks take images (B, C, H, W) to logits (B, classes).
    Raises: InvalidInputError also for a mutable that has no marked form, and for nni's cells.
    Source: nni 3.0, https://nni.readthedocs.io/en/v3.0/nas/construct_space.html.
    """

    name = "nni"
    importable = (*OWN_PACKAGES, HUB)

    def __init__(
        self,
        *,
        target: str | type[nn.Module] = EXAMPLE,
        num_classes: int = 10,
        channels: int = 3,
        image_size: int | Sequence[int] = 32,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        _import_nni()
        super().__init__(
            target=target, num_classes=num_classes, channels=channels, image_size=image_size, arguments=arguments
        )

    @classmethod
    def small(cls, **changes: Any) -> "NniSpace":
        small: dict[str, Any] = {"arguments": {"largest": 4}, "image_size": 6, "num_classes": 4}
        return cls(**small | changes)

    def build(self) -> nn.Module:
        """The model space with marks in place of its mutables.

        Its layers are made at the sizes of the network that is built, or at the largest ones.
        """
        from search_spaces.nni.conversion import marked

        builder = current_builder()
        if builder.choices is None:
            sample = {label: _largest(values) for label, values in self._values.items()}
        else:
            sample = self.sample(builder.choices)
        return marked(self._construct(sample), builder, self._values)

    def outline(self, choices: Mapping[str, Choice]) -> nn.Module:
        return part_of(self._outline, choices).to(torch.get_default_dtype())

    @property
    def parameters(self) -> Container[str]:
        """As nni wraps each `__init__` in one of any arguments, those of the first that names some."""
        for kind in self._class.__mro__:
            init = vars(kind).get("_init_wrapped", vars(kind).get("__init__"))
            named = list(inspect.signature(init).parameters.values()) if init else []
            named = [each for each in named[1:] if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
            if named:
                return [each.name for each in named]
        return ()

    def supernet(self) -> Supernet:
        """Raises: InvalidInputError if its first network does not take the inputs."""
        from search_spaces.nni.supernet import NniSupernet

        self.operations_at({d.name: d.choices[0] for d in self.decisions})
        return NniSupernet(self)

    def sample(self, choices: Mapping[str, Choice]) -> dict[str, Any]:
        """The network of `choices` as nni writes it: values by label."""
        return {label: values[str(choices[label])] for label, values in self._values.items()}

    @cached_property
    def _outline(self) -> nn.Module:
        """All networks in one, without numbers."""
        with torch.device("meta"), building():
            return self.build()

    @cached_property
    def _values(self) -> dict[str, dict[str, Any]]:
        """What nni's mutables choose from: values by their text, by label."""
        from search_spaces.nni.conversion import check_kind, options

        with torch.device("meta"):
            whole: Any = self._construct({})
        check_kind(whole)
        return {label: options(label, mutable) for label, mutable in whole.simplify().items()}

    def _construct(self, sample: Mapping[str, Any]) -> nn.Module:
        """nni's own model space, whose layers are made as `sample` says."""
        from nni.mutable import frozen_context

        with frozen_context(dict(sample)):
            if torch.get_default_device().type != "meta":
                return self.call_target()
            try:
                return self.call_target()
            except RuntimeError:  # its code reads a number of a tensor, as an AutoFormer's does
                with torch.device("cpu"):
                    return self.call_target().to("meta")


def _largest(values: Mapping[str, Any]) -> Any:
    """The largest of numbers, the first of other values."""
    found = list(values.values())
    return max(found) if all(isinstance(value, int | float) for value in found) else found[0]


def _import_nni() -> None:
    """Takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each class of a torch that is newer than nni
        import nni.nas.nn.pytorch  # noqa: F401  as `found` imports what it finds
    logging.getLogger("nni").setLevel(logging.ERROR)  # importing nni sets it
