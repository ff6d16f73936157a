"""Images of a training batch shifted and mirrored, each by its own draw."""

# Shapes: B batch, C channels, H height, W width.

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Moves:
    """What may happen to an image: a shift by up to `shift` pixels on each axis, and a mirroring."""

    shift: int
    flip: bool


@dataclass(frozen=True)
class Drawn:
    """Offsets (2, B, 1) of images in rows and columns, and whether each is mirrored (B, 1)."""

    offsets: Tensor
    mirrored: Tensor

    def of(self, share: slice) -> Self:
        """Those of some of the images."""
        return type(self)(self.offsets[:, share], self.mirrored[share])


def draw_moves(moves: Moves, num: int, generator: torch.Generator) -> Drawn:
    """A move for each of `num` images."""
    offsets = torch.randint(2 * moves.shift + 1, (2, num, 1), generator=generator)
    return Drawn(offsets, (torch.rand(num, 1, generator=generator) < 0.5) & moves.flip)


def moved(images_BCHW: Tensor, moves: Moves, drawn: Drawn) -> Tensor:
    """The images (B, H, W, C) as they are drawn, gaps black: one gather, where the images are."""
    num, _, height, width = images_BCHW.shape
    shift, columns = moves.shift, torch.arange(width)
    rows_BH = drawn.offsets[0] + torch.arange(height)
    columns_BW = drawn.offsets[1] + torch.where(drawn.mirrored, columns.flip(0), columns)
    padded_BHWC = F.pad(images_BCHW, (shift, shift, shift, shift)).permute(0, 2, 3, 1)
    return padded_BHWC[torch.arange(num)[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
