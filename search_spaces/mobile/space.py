"""The `mobile` space: a chain of MBConv blocks in the manner of MobileNetV3.

Searched: input resolution; width and depth of each stage; kernel, expansion and squeeze-excite of each block.
Source of the block: MobileNetV3, arXiv:1905.02244; squeeze width as in EfficientNet, arXiv:1905.11946 (input / 4).
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd, prod
from typing import Any

from torch import nn

from search_spaces.bounds import DEEPEST, refuse, wrong_choices, wrong_number
from search_spaces.operation import Operation, Shape
from search_spaces.space import Choice, Decision, SearchSpace, Segment, Site, Supernet
from search_spaces.tensor_spec import TensorSpec

STEM_CHANNELS = 24
HEAD_CHANNELS = 960  # as MobileNetV3-Large
CLASSIFIER_CHANNELS = 1280  # as MobileNetV3-Large
_BLOCK = re.compile(r"k(\d+)e(\d+)(se)?")  # of the notation
NUM_STAGES = 5
LARGE_STRIDES = (2, 2, 2, 2, 1, 2)  # of the stem and the stages: 224 px become 7
# For smaller images, those of the largest total stride whose last map still has room for every kernel.
STRIDES = (
    LARGE_STRIDES,
    (1, 2, 2, 2, 1, 2),
    (1, 1, 2, 2, 1, 2),
    (1, 1, 2, 2, 1, 1),
    (1, 1, 1, 2, 1, 1),
    (1, 1, 1, 1, 1, 1),
)
RESOLUTIONS = (4 / 7, 5 / 7, 6 / 7, 1.0)  # shares of the data's size that networks see: 128, 160, 192, 224 of 224 px


def divisible(channels: float) -> int:
    """Nearest multiple of 8, at least 8: what mobile kernels are fast at."""
    return max(8, int(channels + 4) // 8 * 8)


@dataclass(frozen=True, slots=True)
class BlockName:
    """Decision names of block `block` in stage `stage`, both from 0."""

    stage: int
    block: int

    @property
    def width(self) -> str:
        return f"stage{self.stage}.width"

    @property
    def width_in(self) -> str | None:
        """Width decision of the block's input; none where the stem feeds it."""
        if self.block:
            return self.width
        return f"stage{self.stage - 1}.width" if self.stage else None

    @property
    def depth(self) -> str:
        return f"stage{self.stage}.depth"

    def own(self, what: str) -> str:
        return f"stage{self.stage}.block{self.block}.{what}"


class MobileSpace(SearchSpace):
    """MBConv chains. `widths` gives the choices of each of the five stages; costs are taken at `deploy_shape`.

    `strides` are those of the stem and of the first block of each stage. A resolution is in pixels of the shorter side
    of an image, whose height and width are as `aspect`.
    """

    name = "mobile"
    hard_decisions = frozenset({"resolution"})

    def __init__(
        self,
        *,
        widths: Sequence[Sequence[int]],
        depths: Sequence[int],
        kernels: Sequence[int],
        expansions: Sequence[int],
        squeeze_excite: Sequence[str],
        resolutions: Sequence[int],
        num_classes: int,
        channels: int = 3,
        strides: Sequence[int] = LARGE_STRIDES,
        aspect: Sequence[int] = (1, 1),
    ) -> None:
        small = {"depths": depths, "kernels": kernels, "expansions": expansions}
        large = {"resolutions": resolutions, **{f"widths[{s}]": choices for s, choices in enumerate(widths)}}
        problems = [problem for key, values in small.items() for problem in wrong_choices(key, values, most=DEEPEST)]
        problems += [problem for key, values in large.items() for problem in wrong_choices(key, values)]
        if any(type(k) is int and k % 2 == 0 for k in kernels):
            problems.append(f"space.kernels: got {list(kernels)}, allowed: odd numbers")
        if len(widths) != NUM_STAGES:
            problems.append(f"space.widths: got {len(widths)} stages, allowed: {NUM_STAGES}")
        if len(strides) != NUM_STAGES + 1 or set(strides) - {1, 2}:
            problems.append(f"space.strides: got {list(strides)}, allowed: 1 or 2 for the stem and each stage")
        if len(aspect) != 2 or wrong_number("aspect", min(aspect)):
            problems.append(f"space.aspect: got {list(aspect)}, allowed: two whole numbers, as [3, 4]")
        if not squeeze_excite or set(squeeze_excite) - {"off", "on"}:
            problems.append(f"space.squeeze_excite: got {list(squeeze_excite)}, allowed: 'off', 'on' or both")
        problems += [*wrong_number("num_classes", num_classes, least=2), *wrong_number("channels", channels)]
        refuse(problems)
        self.widths = tuple(tuple(choices) for choices in widths)
        self.depths, self.kernels, self.expansions = tuple(depths), tuple(kernels), tuple(expansions)
        self.squeeze_excite, self.resolutions = tuple(squeeze_excite), tuple(resolutions)
        self.num_classes, self.channels = num_classes, channels
        self.strides, self.aspect = tuple(strides), tuple(aspect)
        self.inputs = {"image": TensorSpec((channels, *self.image_pixels(max(resolutions))))}
        self.blocks = [BlockName(s, b) for s in range(len(widths)) for b in range(max(depths))]
        self.decisions = tuple(self._decisions())
        self.segments = tuple(self._segments())
        self.sites = tuple(site for segment in self.segments for site in segment.sites)

    @classmethod
    def filled(cls, arguments: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        """With `resolutions`, `strides` and `aspect` as images of that size ask for, where they are left open."""
        filled, shared = dict(arguments), gcd(*image_size)
        if filled.get("resolutions") is None:
            filled["resolutions"] = sorted({max(1, round(share * min(image_size))) for share in RESOLUTIONS})
        if filled.get("strides") is None:
            pixels = max(filled["resolutions"], default=1)
            last_map = (max(filled["kernels"], default=1) + 1) // 2  # on a smaller one two kernels compute the same
            fitting = (strides for strides in STRIDES if pixels_after(strides, pixels) >= last_map)
            filled["strides"] = list(next(fitting, STRIDES[-1]))
        if filled.get("aspect") is None:
            filled["aspect"] = [side // shared for side in image_size]
        return filled

    @classmethod
    def small(cls, **changes: Any) -> "MobileSpace":
        """Two choices for most decisions, 48 and 64 px. Memory often peaks in a residual block: stage 0 is wide."""
        spec: dict[str, Any] = {
            "widths": [[48, 96], [8, 16], [8, 24], [16, 24], [16, 32]],
            "depths": [1, 2],
            "kernels": [3, 5],
            "expansions": [3, 6],
            "squeeze_excite": ["off", "on"],
            "resolutions": [48, 64],
            "num_classes": 4,
        }
        return cls(**spec | changes)

    def spec(self) -> dict[str, Any]:
        return {
            "widths": [list(choices) for choices in self.widths],
            "depths": list(self.depths),
            "kernels": list(self.kernels),
            "expansions": list(self.expansions),
            "squeeze_excite": list(self.squeeze_excite),
            "resolutions": list(self.resolutions),
            "num_classes": self.num_classes,
            "channels": self.channels,
            "strides": list(self.strides),
            "aspect": list(self.aspect),
        }

    def supernet(self) -> Supernet:
        from search_spaces.mobile.supernet import MobileSupernet

        return MobileSupernet(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        from search_spaces.mobile.network import MobileNetwork

        self.check(choices)
        return MobileNetwork(self, choices)

    def draw(self, choices: Mapping[str, Choice]) -> str:
        from search_spaces.mobile.drawing import draw_chain

        self.check(choices)
        return draw_chain(self, choices)

    def inputs_of(self, choices: Mapping[str, Choice]) -> Mapping[str, TensorSpec]:
        return {"image": TensorSpec((self.channels, *self.image_pixels(int(choices["resolution"]))))}

    def image_pixels(self, resolution: int) -> tuple[int, int]:
        """Height and width of an image whose shorter side has `resolution` pixels."""
        height, width = (round(resolution * side / min(self.aspect)) for side in self.aspect)
        return height, width

    def notation(self, choices: Mapping[str, Choice]) -> str:
        """As `192px | 24: k3e3 k5e6se | 40: ...`: resolution, then width and blocks of each stage."""
        stages = [f"{choices['resolution']}px"]
        for stage in range(len(self.widths)):
            kept = [n for n in self.blocks if n.stage == stage and n.block < int(choices[n.depth])]
            blocks = [
                f"k{choices[n.own('kernel')]}e{choices[n.own('expand')]}"
                + ("se" if choices[n.own("se")] == "on" else "")
                for n in kept
            ]
            stages.append(f"{choices[kept[0].width]}: {' '.join(blocks)}")
        return " | ".join(stages)

    def identity(self, choices: Mapping[str, Choice]) -> Hashable:
        """Its notation: blocks that the depth leaves out are not in it."""
        return self.notation(choices)

    def features(self, choices: Mapping[str, Choice]) -> list[float]:
        """One number for each choice, 0 for all of a block that the depth leaves out."""
        dropped = [n for n in self.blocks if n.block >= int(choices[n.depth])]
        unused = {n.own(part) for n in dropped for part in ("kernel", "expand", "se")}
        return [float(d.name not in unused and choices[d.name] == c) for d in self.decisions for c in d.choices]

    def read_notation(self, notation: str) -> dict[str, Choice]:
        resolution, *stages = notation.split(" | ")
        choices: dict[str, Choice] = {"resolution": int(resolution.removesuffix("px"))}
        for stage, text in enumerate(stages):
            width, _, blocks = text.partition(": ")
            found = _BLOCK.findall(blocks)
            choices |= {f"stage{stage}.width": int(width), f"stage{stage}.depth": len(found)}
            for block, (kernel, expand, se) in enumerate(found):
                name = BlockName(stage, block)
                choices |= {name.own("kernel"): int(kernel), name.own("expand"): int(expand)}
                choices[name.own("se")] = "on" if se else "off"
        return choices

    def _decisions(self) -> list[Decision]:
        decisions = [Decision("resolution", self.resolutions)]
        for name in self.blocks:
            if name.block == 0:
                decisions += [Decision(name.width, self.widths[name.stage]), Decision(name.depth, self.depths)]
            decisions.append(Decision(name.own("kernel"), self.kernels))
            decisions.append(Decision(name.own("expand"), self.expansions))
            decisions.append(Decision(name.own("se"), self.squeeze_excite))
        return decisions

    # Costs. Each block is cut into sites of few decisions: tables stay small and exact selection fast.

    def _segments(self) -> list[Segment]:
        """Stem, stages and head: a stage opens with a block that is not residual, so one tensor alone enters it."""
        last = BlockName(len(self.widths) - 1, 0)
        stem, head = Site("stem", ("resolution",), self._stem), Site("head", ("resolution", last.width), self._head)
        stages = []
        for opening in (name for name in self.blocks if name.block == 0):
            sites = [site for n in self.blocks if n.stage == opening.stage for site in self._block_sites(n)]
            width_in = (opening.width_in,) if opening.width_in else ()
            input_shape = partial(self._stage_input, opening)
            stages.append(Segment(f"stage{opening.stage}", ("resolution", *width_in), input_shape, tuple(sites)))
        return [
            Segment("stem", ("resolution",), self.input_shape, (stem,)),
            *stages,
            Segment("head", ("resolution", last.width), self._head_input, (head,)),
        ]

    def _block_sites(self, name: BlockName) -> list[Site]:
        depth = (name.depth,) if name.block >= min(self.depths) else ()
        width_in = (name.width_in,) if name.width_in else ()
        widths = tuple(dict.fromkeys((*width_in, name.width)))
        hidden = ("resolution", *depth, *width_in, name.own("expand"))
        parts = {
            "expand": (hidden, self._expand),
            "depthwise": ((*hidden, name.own("kernel")), self._depthwise),
            "squeeze": ((*hidden, name.own("se")), self._squeeze),
            "project": (("resolution", *depth, *widths, name.own("expand")), self._project),
        }
        return [
            Site(name.own(part), scope, partial(self._if_deep_enough, name, operations))
            for part, (scope, operations) in parts.items()
        ]

    def _stage_input(self, opening: BlockName, choices: Mapping[str, Any]) -> Shape:
        width = choices[opening.width_in] if opening.width_in else STEM_CHANNELS
        return (width, *self.map_into(opening.stage, choices["resolution"]))

    def _head_input(self, choices: Mapping[str, Any]) -> Shape:
        last = BlockName(NUM_STAGES - 1, 0).width
        return (choices[last], *self.map_into(NUM_STAGES, choices["resolution"]))

    def _if_deep_enough(self, name: BlockName, operations: Any, choices: Mapping[str, Any]) -> list[Operation]:
        return [] if choices.get(name.depth, name.block + 1) <= name.block else operations(name, choices)

    def map_into(self, stage: int, resolution: int) -> tuple[int, int]:
        """Height and width of the map that enters a stage; after the last stage, of the one that leaves it."""
        height, width = (pixels_after(self.strides[: stage + 1], side) for side in self.image_pixels(resolution))
        return height, width

    def stride_of(self, name: BlockName) -> int:
        return 1 if name.block else self.strides[1 + name.stage]

    def channels_of(self, name: BlockName, choices: Mapping[str, Any]) -> tuple[int, int]:
        """Input and hidden channels of a block."""
        cin = choices[name.width_in] if name.width_in else STEM_CHANNELS
        return cin, divisible(cin * choices[name.own("expand")])

    def shapes_of(self, name: BlockName, choices: Mapping[str, Any]) -> tuple[Shape, Shape, Shape]:
        """Shapes of a block's input, and of its hidden map before and after the depthwise convolution."""
        cin, hidden = self.channels_of(name, choices)
        before, after = (self.map_into(name.stage + passed, choices["resolution"]) for passed in (0, 1))
        before = after if name.block else before
        return (cin, *before), (hidden, *before), (hidden, *after)

    def _stem(self, choices: Mapping[str, Any]) -> list[Operation]:
        image = self.input_shape(choices)
        stem = (STEM_CHANNELS, *self.map_into(0, choices["resolution"]))
        return [Operation("conv", image, stem, kernel=3, stride=self.strides[0])]

    def _expand(self, name: BlockName, choices: Mapping[str, Any]) -> list[Operation]:
        # A residual input is the operation's own input here, so nothing more is held.
        return [Operation("conv", *self.shapes_of(name, choices)[:2])]

    def _depthwise(self, name: BlockName, choices: Mapping[str, Any]) -> list[Operation]:
        block_input, before, after = self.shapes_of(name, choices)
        kernel, stride, held = choices[name.own("kernel")], self.stride_of(name), _held(name, block_input)
        return [Operation("conv", before, after, kernel=kernel, stride=stride, groups=before[0], held=held)]

    def _squeeze(self, name: BlockName, choices: Mapping[str, Any]) -> list[Operation]:
        if choices[name.own("se")] == "off":
            return []
        block_input, _, full = self.shapes_of(name, choices)
        narrow, one = (divisible(block_input[0] / 4), 1, 1), (full[0], 1, 1)
        held = _held(name, block_input)
        return [
            Operation("global_pool", full, one, held=held),
            Operation("conv", one, narrow, held=held + prod(full)),
            Operation("conv", narrow, one, held=held + prod(full)),
            Operation("scale", full, full, held=held),
        ]

    def _project(self, name: BlockName, choices: Mapping[str, Any]) -> list[Operation]:
        block_input, _, hidden = self.shapes_of(name, choices)
        out = (choices[name.width], *hidden[1:])
        project = Operation("conv", hidden, out, held=_held(name, block_input))
        return [project, Operation("add", out, out)] if name.block else [project]

    def _head(self, choices: Mapping[str, Any]) -> list[Operation]:
        shape = self._head_input(choices)
        head, one = (HEAD_CHANNELS, *shape[1:]), (HEAD_CHANNELS, 1, 1)
        return [
            Operation("conv", shape, head),
            Operation("global_pool", head, one),
            Operation("linear", one, (CLASSIFIER_CHANNELS, 1, 1)),
            Operation("linear", (CLASSIFIER_CHANNELS, 1, 1), (self.num_classes, 1, 1)),
        ]


def pixels_after(strides: Sequence[int], pixels: int) -> int:
    """Pixels along one side of a map after convolutions of these strides."""
    for stride in strides:
        pixels = -(-pixels // stride)
    return pixels


def _held(name: BlockName, block_input: Shape) -> int:
    """Elements of the input that a residual block keeps for its addition."""
    return prod(block_input) if name.block else 0
