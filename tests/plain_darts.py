"""A mixed pass of the `darts` space as the paper writes it: operation by operation, edge by edge, nothing shared."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from search_spaces.darts.genotype import NODES, edge_name


def plain_cell(cell: Any, before: tuple[Tensor, Tensor], selection: Mapping[str, Tensor]) -> Tensor:
    """The output of a mixed cell, from its own modules."""
    nodes = [prepare(x) for prepare, x in zip(cell.prepare, before, strict=True)]
    for target in NODES:
        edges = [edge_name(cell.kind, source, target) for source in range(target)]
        nodes.append(sum(_edge(cell, name, x, selection[name]) for name, x in zip(edges, nodes, strict=True)))  # type: ignore[arg-type]
    return torch.cat(nodes[NODES[0] :], dim=1)


def _edge(cell: Any, name: str, x: Tensor, weights: Tensor) -> Any:
    run = [(weights[k], operation) for k, operation in enumerate(cell.names) if operation != "none"]
    total: Any = sum(weight * cell.edges[name][operation](x) for weight, operation in run)
    if cell.skip_beside:
        total = total + sum(weight for weight, _ in run) * cell.besides[name](x)
    return total


def plain_logits(supernet: Any, images: Tensor, selection: Mapping[str, Tensor]) -> Tensor:
    """Logits (B, classes) of the supernet of a CIFAR stem."""
    frame = supernet.frame
    first = second = frame.stem[0](images)
    for cell in frame.cells:
        first, second = second, plain_cell(cell, (first, second), selection)
    return frame.classifier(frame.pool(second).flatten(1))
