"""Where a search computes: a CPU or CUDA devices, in which precision. Logits, masks and tables stay on the CPU."""

from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.errors import InvalidInputError
from search_spaces.space import Selection, Supernet
from trainers.deploy.standalone import device_of_weights
from trainers.runs.config import TrainerConfig


def accelerator_here(asked: str) -> str:
    """What `auto` stands for on this machine: gpu where CUDA has a device, else cpu."""
    return ("gpu" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def check_devices(settings: TrainerConfig) -> None:
    """Raises: InvalidInputError if this machine lacks the devices that a search asks for."""
    if settings.accelerator != "gpu":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < settings.devices:
        key, got = ("accelerator", "gpu") if found == 0 else ("devices", settings.devices)
        raise InvalidInputError(
            f"trainer.{key}: got {got}, but PyTorch {torch.__version__} finds {found} CUDA devices here; "
            f"{'choose trainer.accelerator=cpu, or install PyTorch for CUDA' if found == 0 else 'ask for fewer'}"
        )


def device_of(settings: TrainerConfig, rank: int = 0) -> torch.device:
    """Where process `rank` computes."""
    return torch.device("cuda", rank) if settings.accelerator == "gpu" else torch.device("cpu")


def take_selections(supernet: Supernet) -> None:
    """Lets a supernet on a GPU take images and selections from the CPU: weights of choices are sent as one vector."""
    supernet.register_forward_pre_hook(_send)


def compute_in_bf16(supernet: Supernet) -> None:
    """From now on passes that take gradients compute in bfloat16 where autocast does; outputs are float32."""
    forward = supernet.forward

    @wraps(forward)
    def mixed(x: Any, selection: Selection) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(x, selection)
        with torch.autocast(device_of_weights(supernet).type, torch.bfloat16):
            return forward(x, selection).float()

    supernet.forward = mixed  # type: ignore[method-assign]


def _send(supernet: nn.Module, given: tuple[Any, Selection]) -> tuple[Any, Selection]:
    x, selection = given
    device = device_of_weights(supernet)
    x = x.to(device) if isinstance(x, Tensor) else tuple(each.to(device) for each in x)
    mixed = {name: weights for name, weights in selection.items() if isinstance(weights, Tensor)}
    if mixed:
        sent_N = torch.cat(list(mixed.values())).to(device)
        parts = sent_N.split([len(weights_C) for weights_C in mixed.values()])
        selection = {**selection, **dict(zip(mixed, parts, strict=True))}
    return x, selection
