"""Random networks to time a machine with: of mobile blocks and of NAS-Bench-201's operations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from hardware_models.latency_models.roofline import PriceKind, price_kind
from hardware_models.measuring.graph import Graph
from search_spaces.operation import Operation, Shape

RESOLUTIONS = (128, 160, 192, 224)
# From MobileNetV3's widths to EfficientNet-B4's: wide convolutions run closer to the peak than narrow ones.
STAGE_CHANNELS = ((16, 24, 40, 72), (24, 40, 64, 112), (40, 80, 112, 224), (80, 112, 192, 272), (112, 160, 224, 448))
STRIDES = (2, 2, 2, 2, 1, 2)  # of the stem and of each stage


@dataclass(frozen=True, slots=True)
class Network:
    """A network to time, and its operations to price."""

    graph: Graph = field(default_factory=Graph)
    operations: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation, *inputs: str, activation: str = "") -> str:
        self.operations.append(operation)
        return self.graph.add(operation, *inputs, activation=activation)


def sample_operations(random: Random, per_kind: int) -> list[Operation]:
    """Distinct operations of random networks, up to `per_kind` of each kind of a roofline."""
    drawn = (op for i in range(24) for op in random_network(random, i).operations)
    by_kind: dict[PriceKind, list[Operation]] = {}
    for operation in dict.fromkeys(drawn):
        by_kind.setdefault(price_kind(operation), []).append(operation)
    return [op for operations in by_kind.values() for op in random.sample(operations, min(per_kind, len(operations)))]


def random_network(random: Random, index: int) -> Network:
    """A random network: two of three are of mobile blocks, the third of NAS-Bench-201's operations."""
    return _cell_network(random) if index % 3 == 2 else mobile_network(random, resolution=random.choice(RESOLUTIONS))


def mobile_network(random: Random, *, resolution: int, strides: Sequence[int] = STRIDES) -> Network:
    """A random network of mobile blocks for square images; `strides` are those of the stem and of each stage."""
    network, side = Network(), -(-resolution // strides[0])
    shape: Shape = (24, side, side)
    stem = Operation("conv", (3, resolution, resolution), shape, kernel=3, stride=strides[0])
    x = network.add(stem, network.graph.input(1, *stem.in_shape), activation="Relu")
    for stage, (channels, stride) in enumerate(zip(STAGE_CHANNELS, strides[1:], strict=True)):
        width, activation = random.choice(channels), "HardSwish" if stage >= 2 else "Relu"
        for block in range(random.choice((1, 2, 3, 4))):
            x, shape = _mobile_block(network, random, x, shape, width, 1 if block else stride, activation)
    head = (960, *shape[1:])
    x = network.add(Operation("conv", shape, head), x, activation="HardSwish")
    x = network.add(Operation("global_pool", head, (960, 1, 1)), x)
    x = network.add(Operation("linear", (960, 1, 1), (1280, 1, 1)), x, activation="HardSwish")
    network.add(Operation("linear", (1280, 1, 1), (random.choice((10, 100, 1000)), 1, 1)), x)
    return network


def _mobile_block(
    network: Network, random: Random, x: str, shape: Shape, width: int, stride: int, activation: str
) -> tuple[str, Shape]:
    hidden, side = shape[0] * random.choice((3, 4, 6)), -(-shape[1] // stride)
    wide, small, out = (hidden, *shape[1:]), (hidden, side, side), (width, side, side)
    y = network.add(Operation("conv", shape, wide), x, activation=activation)
    kernel = random.choice((3, 5, 7))
    y = network.add(Operation("conv", wide, small, kernel, stride, groups=hidden), y, activation=activation)
    if random.random() < 0.5:
        one, narrow = (hidden, 1, 1), (max(8, shape[0] // 4 // 8 * 8), 1, 1)
        gate = network.add(Operation("global_pool", small, one), y)
        gate = network.add(Operation("conv", one, narrow), gate, activation="Relu")
        gate = network.add(Operation("conv", narrow, one), gate, activation="HardSigmoid")
        y = network.add(Operation("scale", small, small), y, gate)
    y = network.add(Operation("conv", small, out), y)
    return (network.add(Operation("add", out, out), x, y) if shape == out else y), out


def _cell_network(random: Random) -> Network:
    network, side, num_cells = Network(), 32, random.choice((1, 3, 5))
    shape: Shape = (16, side, side)
    x = network.add(Operation("conv", (3, side, side), shape, kernel=3), network.graph.input(1, 3, side, side))
    for stage in range(3):
        if stage:
            wide: Shape = (2 * shape[0], shape[1] // 2, shape[2] // 2)
            x, shape = network.add(Operation("conv", shape, wide, kernel=3, stride=2), x, activation="Relu"), wide
        # One draw for all cells: a network repeats its cell.
        edges = [random.choice(("conv1", "conv3", "avg_pool")) for _ in range(random.choice((2, 3, 4)))]
        for _ in range(num_cells):
            for edge in edges:
                x = network.add(Operation("add", shape, shape), x, _edge(network, edge, shape, x))
    x = network.add(Operation("global_pool", shape, (shape[0], 1, 1)), x)
    network.add(Operation("linear", (shape[0], 1, 1), (10, 1, 1)), x)
    return network


def _edge(network: Network, edge: str, shape: Shape, x: str) -> str:
    if edge == "avg_pool":
        return network.add(Operation("avg_pool", shape, shape, kernel=3), x)
    kernel = 3 if edge == "conv3" else 1
    return network.add(Operation("conv", shape, shape, kernel=kernel), network.graph.activate(x, "Relu"))
