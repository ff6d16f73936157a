"""From an image as it is stored to what a network takes: the same steps in training and inside of an exported file."""

# Shapes: N images, H height, W width, C stored channels, K channels of the network.

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Preprocess(nn.Module):
    """An image uint8 (H, W, C) of any size to float32 (1, K, height, width).

    Its centre in the proportions of `size` (height, width) is scaled to that, then normalised by `mean` and `std` (K,)
    of pixel values 0..1. One channel is repeated where K is more.
    """

    def __init__(self, *, size: tuple[int, int], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.size = size
        self.mean = nn.Buffer(mean.reshape(1, -1, 1, 1).clone())
        self.std = nn.Buffer(std.reshape(1, -1, 1, 1).clone())

    def forward(self, image_HWC: Tensor) -> Tensor:
        x = scaled(image_HWC.permute(2, 0, 1)[None].float(), self.size) / 255
        return (x.expand(-1, self.mean.shape[1], -1, -1) - self.mean) / self.std


def scaled(images_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre in the proportions of `size` (height, width), scaled to it: bilinear with antialiasing, as Pillow."""
    height, width = size
    rows, columns = images_NCHW.shape[2:]  # symbols while it is exported
    kept_rows = torch.sym_max(torch.sym_min(rows, columns * height // width), 1)
    kept_columns = torch.sym_max(torch.sym_min(columns, rows * width // height), 1)
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    centre = images_NCHW[:, :, top : top + kept_rows, left : left + kept_columns]
    torch._check(centre.shape[2] > 0)
    torch._check(centre.shape[3] > 0)
    return F.interpolate(centre, size, mode="bilinear", antialias=True)
