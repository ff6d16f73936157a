"""A data set as it is configured, and the batches drawn from its parts, read and augmented a batch at a time."""

import os
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, signature
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from search_spaces.errors import InvalidInputError
from trainers.data.augmentation import Moves, draw_moves, moved, shown
from trainers.data.duplicates import find_duplicates
from trainers.data.image_set import DATASETS, DataError, ImageSet, Subset, key_generator
from trainers.data.preprocessing import Preprocess, scaled
from trainers.data.sampling import balanced_order
from trainers.data.splits import SPLITS, Shares, Split, Splits, make_splits
from trainers.data.storage import IN_MEMORY, Report, Storage, silent
from trainers.data.task import TASKS, balanced_weights
from trainers.runs.result_parts import Data, Images, Majority
from trainers.runs.validation import checked

# Shapes: N images of the set, S images of a split, B batch, C stored channels, H height, W width.

Batch = tuple[Tensor, Tensor]
ALL = slice(None)  # images of a batch
COUNTED_AT_ONCE = 16  # images, of which there may be more than fit in memory
Moved = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=4, le=1024)]


class DataConfig(BaseModel):
    """A data set, how much of it is read, how it is divided and augmented.

    `image_size`, `shift` and `mask` are in pixels; one `shift` is that of rows and columns. `words` are for keywords.
    `class_weights` (of the training loss) and `sampling` (of training batches) help classes of few images.
    Without `image_size` and `channels` images keep their own. `content` is the sha256 of the images and labels that
    are read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    root: Path | None = None
    image_size: tuple[Side, Side] | None
    channels: Annotated[int, Field(ge=1, le=64)] | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    limit_test: Annotated[int, Field(ge=1)] | None = None
    shares: Shares
    flip: bool
    shift: Moved | tuple[Moved, Moved]
    mask: tuple[Moved, Moved] = (0, 0)
    words: tuple[str, ...] | None = None
    split_seed: Annotated[int, Field(ge=0)] = 0
    memory_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = IN_MEMORY.memory_mb
    cache: Path | None = None
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    content: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None  # of the images; found out, not set

    @property
    def shifts(self) -> tuple[int, int]:
        """Most rows and columns of a shift."""
        return (self.shift, self.shift) if isinstance(self.shift, int) else self.shift

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        DATASETS[name]  # raises a ValueError that says which there are
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        needed = signature(DATASETS[self.name]).parameters
        if self.root is None and "root" in needed:
            raise ValueError(f"data set {self.name} is read from files; give root, the folder that holds them")
        if self.image_size is None and "image_size" in needed and needed["image_size"].default is Parameter.empty:
            raise ValueError(f"images of {self.name} are of several sizes; give image_size, as [32, 32]")
        if self.image_size is not None:
            for key, most, sides in (("shift", self.shifts, 2), ("mask", self.mask, 1)):
                if any(sides * each >= side for each, side in zip(most, self.image_size, strict=True)):
                    part = "half the image size" if sides == 2 else "the image size"
                    raise ValueError(f"{key} must be below {part} {self.image_size}, got {getattr(self, key)}")
        if self.words is not None and "words" not in needed:
            raise ValueError(f"words: got {list(self.words)}, but {self.name} has no words to choose; leave it out")
        if self.class_weights == self.sampling == "balanced":
            raise ValueError(
                "class_weights and sampling are both balanced, which favours rare classes twice; choose one"
            )
        return self


def data_config(content: Mapping[str, Any]) -> DataConfig:
    """The section `data` of a configuration. Raises: InvalidInputError with the keys that are wrong."""
    given = {key: content[key] for key in ("root", "cache") if isinstance(content.get(key), str)}
    content = {**content, **{key: Path(os.path.expanduser(path)) for key, path in given.items()}}
    return checked(DataConfig, content, section="data")


def load_data(config: DataConfig, *, image_size: tuple[int, int] | None = None, joined: bool = False) -> "ImageData":
    """The data set of `config`, read, divided, and ready to give batches; of another `image_size` than its own.

    Where both training splits are `joined`, `weights` has all their images.
    """
    image_set = read_images(config)
    is_read_anew = image_size not in (None, config.image_size)
    if is_read_anew and "image_size" in signature(DATASETS[config.name]).parameters:
        sized = config.model_copy(update={"image_size": image_size})
        image_set = _read(sized, silent)  # from its files, and not scaled twice
    splits = make_splits(image_set, config.shares, seed=config.split_seed)
    splits = splits.joined() if joined else splits
    height, width = image_size or config.image_size or image_set.images.shape[2:]
    channels = config.channels or image_set.images.shape[1]
    return ImageData(
        image_set,
        splits,
        image_size=(height, width),
        channels=channels,
        shift=config.shifts,
        mask=config.mask,
        flip=config.flip,
        weighs_classes=config.class_weights == "balanced",
        draws_classes=config.sampling == "balanced",
    )


def content_of(config: DataConfig, report: Report = silent) -> str:
    """sha256 of the images, labels and parts of `config`, as hex. `read_images` of this content does not read it again.

    Raises: DataError if it is not the content that `config` names.
    """
    _last_read.clear()
    image_set = _read(config, report)
    found = image_set.content()
    if config.content not in (None, found):
        raise DataError(
            f"data.content: got {config.content}, {image_set.origin} has {found}; "
            "leave it out to search with what is there now"
        )
    _last_read[_as_read(config, found)] = image_set
    return found


def read_images(config: DataConfig) -> ImageSet:
    """The images of `config`. Raises: DataError if their content is not that of `config`."""
    if _as_read(config, config.content) not in _last_read:
        config = config.model_copy(update={"content": content_of(config)})
    return _last_read[_as_read(config, config.content)]


def _as_read(config: DataConfig, content: str | None) -> DataConfig:
    """The configuration without what its reader is not given."""
    takes = signature(DATASETS[config.name]).parameters
    left_out = {key: None for key in ("image_size", "channels") if key not in takes}
    return config.model_copy(update={**left_out, "content": content})


_last_read: dict[DataConfig, ImageSet] = {}  # one, by its content


def _read(config: DataConfig, report: Report) -> ImageSet:
    """A reader is given what it takes of root, image_size, channels, subset and storage."""
    read = DATASETS[config.name]
    subset = Subset(train=config.limit, test=config.limit_test, seed=config.split_seed)
    storage = Storage(config.memory_mb, config.cache, report)
    given: dict[str, Any] = {"root": config.root, "image_size": config.image_size, "subset": subset, "storage": storage}
    given |= {} if config.channels is None else {"channels": config.channels}
    given |= {} if config.words is None else {"words": config.words}
    taken = {name: value for name, value in given.items() if name in signature(read).parameters}
    return read(**taken) if "subset" in taken else subset.of(read(**taken))


class ImageData:
    """An image set at the training size, giving normalised batches: a function of seeds, not of global state.

    `mean` and `std`, (channels,), are of the weights split at pixel values 0..1. A grey set's channel is repeated.
    Where it `weighs_classes`, all weigh alike in the training loss; where it `draws_classes`, all come as often in
    training batches.
    """

    def __init__(
        self,
        image_set: ImageSet,
        splits: Splits,
        *,
        image_size: tuple[int, int],
        channels: int,
        shift: tuple[int, int] = (0, 0),
        mask: tuple[int, int] = (0, 0),
        flip: bool = False,
        weighs_classes: bool = False,
        draws_classes: bool = False,
    ) -> None:
        if channels < 1 or image_set.images.shape[1] not in (1, channels):
            stored = image_set.images.shape[1]
            raise InvalidInputError(
                f"data.channels: got {channels}, {image_set.origin} has images of {stored}; leave it out, or see "
                f"whether one of {stored} will do"
            )
        self.name, self.origin, self.num_classes = image_set.name, image_set.origin, image_set.num_classes
        self.classes = image_set.classes
        self.task, self.left_out = TASKS[image_set.task](), image_set.left_out
        if weighs_classes:
            self.task = self.task.weighted(balanced_weights(image_set.labels[splits.weights], self.num_classes))
        self.duplicates = find_duplicates(image_set, splits)
        self.splits, self.image_size, self.channels = splits, image_size, channels
        self._moves, self._draws_classes = Moves(shift, flip, mask), draws_classes
        self._image_set, self._labels_N = image_set, image_set.labels
        images = image_set.images
        if images.shape[2:] != image_size:
            images = scaled(images, image_size)
        levels = torch.arange(256, dtype=torch.float64) / 255
        counts = level_counts(images, splits.weights).double()
        mean = counts @ levels / counts.sum(1)
        std = (counts @ levels**2 / counts.sum(1) - mean**2).clamp(min=0).sqrt()
        if (std < 1e-6).any():
            raise DataError(f"{image_set.origin}: a channel of the weights split has one value only; check the images")
        self.mean, self.std = mean.float().expand(channels), std.float().expand(channels)
        self._images_NCHW = images
        self.size_mb = images.nbytes / 1e6

    def reside_on(self, device: torch.device) -> None:
        """From now on batches are augmented on a GPU, if at most half of its free memory holds all images."""
        if device.type == "cuda" and self._images_NCHW.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._images_NCHW = self._images_NCHW.to(device)

    @property
    def stored_channels(self) -> int:
        """Channels of an image as it is stored."""
        return self._image_set.images.shape[1]

    @property
    def preprocess(self) -> Preprocess:
        """What makes of an image as it is stored one of a batch, without augmentation."""
        return Preprocess(size=self.image_size, mean=self.mean, std=self.std)

    def stored(self, split: Split, *, images: int | None = None) -> Iterator[tuple[np.ndarray, int]]:
        """Each image of a split as it is stored, uint8 (H, W, C), with its label; or `images` of them, drawn."""
        indices_S = self._indices(split)
        if images is not None:
            indices_S = indices_S[torch.randperm(len(indices_S), generator=key_generator("stored", split))[:images]]
        for index in indices_S.tolist():
            yield self._image_set.stored(index), int(self._labels_N[index])

    def pixels_of(self, x_BCHW: Tensor) -> Tensor:
        """The images that batches were normalised from, uint8 (B, H, W, C), to the nearest level."""
        pixels_BHWC = x_BCHW.detach().permute(0, 2, 3, 1) * self.std + self.mean
        levels_BHWC = (pixels_BHWC * 255).round().clamp(0, 255).to(torch.uint8)
        return levels_BHWC[..., : self.stored_channels].contiguous()  # further ones repeat it

    def record(self) -> Data:
        """What a result says of the data."""
        return Data(
            name=self.name,
            origin=self.origin,
            split_hash=self.splits.hash,
            images=Images(**{split: self.size(split) for split in SPLITS}),
            left_out=dict(self.left_out),
            duplicates=self.duplicates,
            **self._test_classes(),
        )

    def _test_classes(self) -> dict[str, Any]:
        """The class of most test images, and those of none, where images are of classes."""
        classes_S = self.task.groups(self._labels_N[self.splits.test])
        if classes_S is None:
            return {}
        counts = classes_S.bincount(minlength=self.num_classes)
        largest = int(counts.argmax())
        return {
            "majority": Majority(name=self.classes[largest], share=int(counts[largest]) / len(classes_S)),
            "untested": [name for name, num in zip(self.classes, counts.tolist(), strict=True) if not num],
        }

    def size(self, split: Split) -> int:
        """Images of a split."""
        return len(self._indices(split))

    def batches(self, split: Split, *, batch_size: int, seed: int, epoch: int, augment: bool) -> Iterator[Batch]:
        """One pass over a split in an order that is a function of (seed, epoch, split): images and int64 labels (B,).

        Images are float32 (B, channels, H, W), channels last. Augmented passes drop an incomplete last batch.
        """
        return self._pass(split, batch_size, augment, (split, seed, epoch, 0))

    def loader(
        self, *, batch_size: int, seed: int, epoch: Callable[[], int], rank: int = 0, ranks: int = 1
    ) -> DataLoader[tuple[Batch, Batch]]:
        """Pairs of an augmented weights batch and an augmented architecture batch, for the epoch that `epoch()` says.

        As long as the longer of the two; the shorter is passed over again, each time in a new order. Process `rank` of
        `ranks` gets its equal share of each batch. Raises: InvalidInputError if either split is smaller than a batch.
        """
        self.check_batch_size(batch_size)
        share = slice(batch_size // ranks * rank, batch_size // ranks * (rank + 1))
        pairs = _PairedBatches(self, batch_size, seed, epoch, share)
        # A generator of its own, for the loader would draw from the global one at each epoch.
        return DataLoader(pairs, batch_size=None, generator=torch.Generator())

    def _indices(self, split: Split) -> Tensor:
        indices: Tensor = getattr(self.splits, split)
        return indices

    def check_batch_size(self, batch_size: int) -> None:
        """Raises: InvalidInputError if a training split cannot fill a batch."""
        sizes: dict[str, int] = {split: self.size(split) for split in ("weights", "architecture")}
        if batch_size > min(sizes.values()):
            raise InvalidInputError(
                f"trainer.batch_size: a step takes {batch_size} images, but {self.name} has only {sizes}; "
                "lower it, or trainer.devices, or raise data.limit"
            )

    def _pass(
        self, split: Split, batch_size: int, augment: bool, key: tuple[int | str, ...], share: slice = ALL
    ) -> Iterator[Batch]:
        indices_S, generator = self._indices(split), key_generator("order", *key)
        if augment and self._draws_classes:
            order_S = balanced_order(self._labels_N[indices_S], generator)
        else:
            order_S = torch.randperm(len(indices_S), generator=generator)
        for i, chosen in enumerate(indices_S[order_S].split(batch_size)):
            if augment and len(chosen) < batch_size:
                return
            images = self._images_NCHW[chosen[share]]
            if augment:
                drawn = draw_moves(self._moves, len(chosen), key_generator("augment", *key, i))
                images = moved(images, self._moves, drawn.of(share))
            else:
                images = images.permute(0, 2, 3, 1)
            pixels = images.contiguous().expand(-1, -1, -1, self.channels).float()
            # Channels lie last in memory already; the permuted view is what torch calls channels_last.
            mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
            normalised = (pixels / 255 - mean) / std
            if augment and any(self._moves.mask):
                normalised = normalised * shown(drawn.of(share), *pixels.shape[1:3]).to(pixels.device)
            yield normalised.permute(0, 3, 1, 2), self._labels_N[chosen[share]]


def level_counts(images: Tensor, indices_S: Tensor) -> Tensor:
    """How often each level occurs in each channel, int64 (C, 256)."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for chosen in indices_S.split(COUNTED_AT_ONCE):
        for channel, pixels in enumerate(images[chosen].transpose(0, 1)):
            counts[channel] += pixels.flatten().bincount(minlength=256)
    return counts


class _PairedBatches(IterableDataset[tuple[Batch, Batch]]):
    def __init__(self, data: ImageData, batch_size: int, seed: int, epoch: Callable[[], int], share: slice) -> None:
        self._data, self._batch_size, self._seed, self._epoch = data, batch_size, seed, epoch
        self._share = share

    def __len__(self) -> int:
        return max(self._data.size("weights"), self._data.size("architecture")) // self._batch_size

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        epoch = self._epoch()
        weights, architecture = self._endless("weights", epoch), self._endless("architecture", epoch)
        return islice(zip(weights, architecture, strict=False), len(self))

    def _endless(self, split: Split, epoch: int) -> Iterator[Batch]:
        for repeat in count():
            key = (split, self._seed, epoch, repeat)
            yield from self._data._pass(split, self._batch_size, True, key, self._share)
