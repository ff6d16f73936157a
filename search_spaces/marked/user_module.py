"""The space `module`: any module of the user's own with marked parts, found by the path of its class."""

import inspect
import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar

from torch import nn

from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.marked.space import MarkedSpace
from search_spaces.registry import OWN_PACKAGES

EXAMPLE = "search_spaces.marked.example:Residual"


class ModuleSpace(MarkedSpace):
    """`target` is a class of module, as `my_package.networks:MyNet`, or that itself from Python.

    It is called with those of `num_classes`, `channels` and `image_size` (height, width) that it takes, and with
    `arguments`; it takes images (B, C, H, W) to logits (B, classes).
    Raises: InvalidInputError if it cannot be found or called, or marks nothing.
    """

    name = "module"
    importable: ClassVar[tuple[str, ...]] = OWN_PACKAGES  # whose targets need no plugins=

    def __init__(
        self,
        *,
        target: str | type[nn.Module] = EXAMPLE,
        num_classes: int = 10,
        channels: int = 3,
        image_size: int | Sequence[int] = 32,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.takes_images(image_size, channels=channels, num_classes=num_classes)
        self.target = target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
        self.arguments = dict(arguments or {})
        self._class = found(target, self.importable) if isinstance(target, str) else target
        self.decisions  # noqa: B018  a network that cannot be built is told of here

    @classmethod
    def small(cls, **changes: Any) -> "ModuleSpace":
        small: dict[str, Any] = {"arguments": {"widths": [4, 6], "blocks": 2}, "image_size": 8, "num_classes": 4}
        return cls(**small | changes)

    def spec(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("target", "arguments", "image_size", "num_classes", "channels")}

    def build(self) -> nn.Module:
        return self.call_target()

    @property
    def parameters(self) -> Container[str]:
        """Names of the arguments that the target takes."""
        return inspect.signature(self._class).parameters

    def call_target(self) -> nn.Module:
        """Raises: InvalidInputError if the target does not take the arguments."""
        offered = {"num_classes": self.num_classes, "channels": self.channels, "image_size": tuple(self.image_size)}
        offered |= {"num_labels": self.num_classes}  # as nni's spaces call it
        taken = self.parameters
        given = {name: value for name, value in offered.items() if name in taken} | self.arguments
        try:
            return self._class(**given)
        except EspalierError:
            raise
        except (TypeError, ValueError, LookupError, AssertionError) as error:
            raise InvalidInputError(f"space.target: {self.target} cannot be called with {given}: {error}") from error


def found(path: str, importable: Sequence[str]) -> type[nn.Module]:
    """The class at `package.module:Name`, of an importable package or of a module that is imported already.

    A file alone imports nothing else.

    Raises: InvalidInputError if there is none.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    if any(module == package or module.startswith(f"{package}.") for package in importable):
        with suppress(ImportError):
            import_module(module)
    if module not in sys.modules:
        raise InvalidInputError(
            f"space.target: the module of {path!r} is not imported; write it as my_module:MyNetwork, and name the "
            f"module in the command: plugins={module or 'my_module'}"
        )
    target = getattr(sys.modules[module], name, None)
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise InvalidInputError(f"space.target: {path!r} is no class of torch modules")
    return target
