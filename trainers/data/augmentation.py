"""Images of a training batch shifted, mirrored and partly hidden, each by its own draw."""

# Shapes: B batch, C channels, H height, W width.

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Moves:
    """What may happen to an image: a shift by up to `shift` rows and columns, and a mirroring.

    Up to `mask` rows next to one another, and columns, are hidden. Source: SpecAugment, arXiv:1904.08779.
    """

    shift: tuple[int, int]
    flip: bool
    mask: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Drawn:
    """Offsets (2, B, 1) of images in rows and columns, whether each is mirrored (B, 1), and its mask.

    `hidden` (2, 2, B, 1) has, by axis, how much of an image is hidden, and where that starts, as a share of the rest.
    """

    offsets: Tensor
    mirrored: Tensor
    hidden: Tensor

    def of(self, share: slice) -> Self:
        """Those of some of the images."""
        return type(self)(self.offsets[:, share], self.mirrored[share], self.hidden[:, :, share])


def draw_moves(moves: Moves, num: int, generator: torch.Generator) -> Drawn:
    """A move for each of `num` images."""
    rows, columns = moves.shift
    if rows == columns:
        offsets = torch.randint(2 * rows + 1, (2, num, 1), generator=generator)
    else:
        offsets = torch.stack([torch.randint(2 * most + 1, (num, 1), generator=generator) for most in moves.shift])
    mirrored = (torch.rand(num, 1, generator=generator) < 0.5) & moves.flip
    hidden = torch.zeros(2, 2, num, 1)
    for axis, most in enumerate(moves.mask):
        if most:
            hidden[axis, 0] = torch.randint(most + 1, (num, 1), generator=generator).float()
            hidden[axis, 1] = torch.rand(num, 1, generator=generator)
    return Drawn(offsets, mirrored, hidden)


def moved(images_BCHW: Tensor, moves: Moves, drawn: Drawn) -> Tensor:
    """The images (B, H, W, C) as they are drawn, gaps black: one gather, where the images are."""
    num, _, height, width = images_BCHW.shape
    columns = torch.arange(width)
    rows_BH = drawn.offsets[0] + torch.arange(height)
    columns_BW = drawn.offsets[1] + torch.where(drawn.mirrored, columns.flip(0), columns)
    down, across = moves.shift
    padded_BHWC = F.pad(images_BCHW, (across, across, down, down)).permute(0, 2, 3, 1)
    return padded_BHWC[torch.arange(num)[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]


def shown(drawn: Drawn, height: int, width: int) -> Tensor:
    """1 where an image (B, H, W, 1) is seen, 0 where it is hidden."""
    seen = []
    for (length_B1, start_B1), size in zip(drawn.hidden, (height, width), strict=True):
        first_B1 = (start_B1 * (size - length_B1 + 1)).floor()
        place = torch.arange(size)
        seen.append(((place < first_B1) | (place >= first_B1 + length_B1)).float())
    rows_BH, columns_BW = seen
    return (rows_BH[:, :, None] * columns_BW[:, None, :])[..., None]
