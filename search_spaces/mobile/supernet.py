"""The supernet of the `mobile` space: superkernels and channel masks, so that a mixed step costs about one path."""

# Shapes: B batch, C channels, H height, W width, K choices of one decision.

from collections.abc import Mapping, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks import (
    ElasticBatchNorm,
    ElasticConv,
    Extent,
    conv_bn,
    kernel_mask,
    prefix_extent,
    resize,
    weights_of,
)
from search_spaces.mobile.network import MobileBlock, MobileNetwork, SqueezeExcite, activation
from search_spaces.mobile.space import (
    CLASSIFIER_CHANNELS,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    BlockName,
    MobileSpace,
    divisible,
)
from search_spaces.space import Choice, Selection, Supernet


class MobileSupernet(Supernet):
    """Weights of the largest network; every other one is a slice of them (hard) or a mask on them (mixed)."""

    def __init__(self, space: MobileSpace) -> None:
        super().__init__(space)
        self.space: MobileSpace = space
        self.stem = conv_bn(space.channels, STEM_CHANNELS, 3, stride=space.strides[0], act=activation(0))
        self.blocks = nn.ModuleList(ElasticBlock(space, name) for name in space.blocks)
        self.head_conv = ElasticConv(max(space.widths[-1]), HEAD_CHANNELS)
        self.head_norm = ElasticBatchNorm(HEAD_CHANNELS)
        self.head_act = activation(len(space.widths) - 1)
        self.features = nn.Sequential(nn.Linear(HEAD_CHANNELS, CLASSIFIER_CHANNELS), nn.Hardswish(inplace=True))
        self.classifier = nn.Linear(CLASSIFIER_CHANNELS, space.num_classes)

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        x = self.stem(resize(x, self._ratio(selection["resolution"])))
        source = Extent(STEM_CHANNELS)
        for block in self.blocks:
            assert isinstance(block, ElasticBlock)
            gate = self._gate(selection, block.name)
            if gate is None:
                continue
            target = self._extent(selection, block.name.width)
            x = block(x, target, gate, selection, self.active)
            source = target
        # Channels outside the mask are zero already, so the head's weight needs none.
        x = self.head_norm(self.head_conv(x, HEAD_CHANNELS), mixed=source.mask is not None)
        return self.classifier(self.features(self.head_act(x).mean((2, 3))))

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        network = self.space.network(choices)
        assert isinstance(network, MobileNetwork)
        network.stem.load_state_dict(self.stem.state_dict())
        blocks = [block for block in self.blocks if isinstance(block, ElasticBlock)]
        kept = [block for block in blocks if block.name.block < choices[block.name.depth]]  # type: ignore[operator]
        for source, target in zip(kept, network.blocks, strict=True):
            assert isinstance(target, MobileBlock)
            source.copy_to(target)
        self.head_conv.copy_to(network.head[0])
        self.head_norm.copy_to(network.head[1])
        network.features.load_state_dict(self.features.state_dict())
        network.classifier.load_state_dict(self.classifier.state_dict())
        return network.to(self.classifier.weight.device).train(self.training)

    def _ratio(self, choice: int | Tensor) -> float:
        index = int(choice.argmax()) if isinstance(choice, Tensor) else choice
        return self.space.resolutions[index] / max(self.space.resolutions)

    def _gate(self, selection: Selection, name: BlockName) -> Tensor | float | None:
        """Weight of the depths that reach this block: 1.0 if all do, none if no active one does."""
        choice, depths = selection[name.depth], self.space.depths
        active = [depths[k] for k in ([choice] if isinstance(choice, int) else self.active[name.depth])]
        if all(depth <= name.block for depth in active):
            return None
        if isinstance(choice, int) or all(depth > name.block for depth in depths):
            return 1.0
        return choice @ choice.new_tensor([float(depth > name.block) for depth in depths])

    def _extent(self, selection: Selection, width: str) -> Extent:
        sizes = [int(size) for size in self.space.decision(width).choices]
        return extent(selection[width], sizes, self.active[width])


def extent(choice: int | Tensor, sizes_K: Sequence[int], active: Sequence[int]) -> Extent:
    """Extent of a channel dimension whose k-th choice has `sizes_K[k]` channels."""
    return prefix_extent(choice, sizes_K, active) if isinstance(choice, Tensor) else Extent(sizes_K[choice])


class ElasticBlock(nn.Module):
    """All choices of one MBConv block. Masks act on weights and norms, never on activations."""

    def __init__(self, space: MobileSpace, name: BlockName) -> None:
        super().__init__()
        self.name, self.kernels, self.expansions = name, space.kernels, space.expansions
        widths_in = space.decision(name.width_in).choices if name.width_in else (STEM_CHANNELS,)
        self.widths_in = [int(width) for width in widths_in]
        self.squeeze_index = {choice: k for k, choice in enumerate(space.squeeze_excite)}
        cin, cout = max(self.widths_in), max(space.widths[name.stage])
        hidden, squeezed = divisible(cin * max(self.expansions)), divisible(cin / 4)
        self.act = activation(name.stage)
        self.expand, self.expand_norm = ElasticConv(cin, hidden), ElasticBatchNorm(hidden)
        self.depthwise = ElasticConv(hidden, hidden, max(self.kernels), stride=space.stride_of(name), depthwise=True)
        self.depthwise_norm = ElasticBatchNorm(hidden)
        self.project, self.project_norm = ElasticConv(hidden, cout), ElasticBatchNorm(cout)
        if name.block:  # a block that may be absent starts as the identity
            nn.init.zeros_(self.project_norm.weight)
        self.reduce, self.restore = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)

    def forward(
        self,
        x: Tensor,
        target: Extent,
        gate: Tensor | float,
        selection: Selection,
        active: Mapping[str, Sequence[int]],
    ) -> Tensor:
        """Output (B, target.size, H', W'); `gate` weights the block's own part of a residual sum."""
        hidden, squeezed = self._inner_extents(selection, active)
        kernel = selection[self.name.own("kernel")]
        is_mixed = isinstance(kernel, Tensor)
        y = self.act(self.expand_norm(self.expand(x, hidden.size), mixed=is_mixed))
        if isinstance(kernel, Tensor):
            mask = kernel_mask(kernel, self.kernels, active[self.name.own("kernel")])
            y = self.depthwise(y, hidden.size, kernel=mask)
        else:
            y = self.depthwise(y, hidden.size, kernel=self.kernels[kernel])
        y = self.act(self.depthwise_norm(y, mixed=is_mixed))
        y = self._squeeze_excite(y, hidden, squeezed, selection[self.name.own("se")])
        scale = target.mask if isinstance(gate, float) else gate * (1.0 if target.mask is None else target.mask)
        if isinstance(scale, Tensor) and scale.dim() == 0:
            scale = scale.expand(target.size)
        y = self.project_norm(self.project(y, target.size, source=hidden.mask), scale, mixed=is_mixed)
        return x + y if self.name.block else y

    def copy_to(self, block: MobileBlock) -> None:
        """Fills a stand-alone block from the slices that its shapes ask for."""
        for conv, norm, part in (
            (self.expand, self.expand_norm, block.expand),
            (self.depthwise, self.depthwise_norm, block.depthwise),
            (self.project, self.project_norm, block.project),
        ):
            conv.copy_to(part[0])
            norm.copy_to(part[1])
        if isinstance(block.squeeze, SqueezeExcite):
            for source, target in ((self.reduce, block.squeeze.reduce), (self.restore, block.squeeze.expand)):
                cout, cin = target.weight.shape[:2]
                target.weight.data.copy_(source.weight.data[:cout, :cin])
                assert source.bias is not None and target.bias is not None
                target.bias.data.copy_(source.bias.data[:cout])

    def _inner_extents(self, selection: Selection, active: Mapping[str, Sequence[int]]) -> tuple[Extent, Extent]:
        """Extents of the hidden and the squeezed channels; both follow the width of the block's input."""
        expand = selection[self.name.own("expand")]
        width_in: int | Tensor = selection[self.name.width_in] if self.name.width_in else 0
        squeezed_sizes = [divisible(width / 4) for width in self.widths_in]
        if isinstance(expand, int) and isinstance(width_in, int):
            hidden = divisible(self.widths_in[width_in] * self.expansions[expand])
            return Extent(hidden), Extent(squeezed_sizes[width_in])
        like = self.expand.weight
        widths_K = weights_of(width_in, len(self.widths_in), like)
        expands_K = weights_of(expand, len(self.expansions), like)
        active_widths = active[self.name.width_in] if self.name.width_in else (0,)
        pairs = list(product(range(len(self.widths_in)), range(len(self.expansions))))
        active_expands = active[self.name.own("expand")]
        active_pairs = [k for k, (w, e) in enumerate(pairs) if w in active_widths and e in active_expands]
        sizes = [divisible(self.widths_in[w] * self.expansions[e]) for w, e in pairs]
        hidden_extent = prefix_extent(torch.outer(widths_K, expands_K).flatten(), sizes, active_pairs)
        return hidden_extent, prefix_extent(widths_K, squeezed_sizes, active_widths)

    def _squeeze_excite(self, y: Tensor, hidden: Extent, squeezed: Extent, choice: int | Tensor) -> Tensor:
        """y times (1 - p + p * attention), p the weight of squeeze-excite being on."""
        on = self.squeeze_index.get("on")
        if on is None or (isinstance(choice, int) and choice != on):
            return y
        reduce = self.reduce.weight[: squeezed.size, : hidden.size]
        restore = self.restore.weight[: hidden.size, : squeezed.size]
        if hidden.mask is not None:
            reduce = reduce * hidden.mask[:, None, None]
        if squeezed.mask is not None:
            restore = restore * squeezed.mask[:, None, None]
        assert self.reduce.bias is not None and self.restore.bias is not None
        s = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), reduce, self.reduce.bias[: squeezed.size]))
        s = F.hardsigmoid(F.conv2d(s, restore, self.restore.bias[: hidden.size]))
        if isinstance(choice, Tensor):
            s = 1 - choice[on] + choice[on] * s
        return y * s
