"""Splits are disjoint, complete and stratified; batches are a function of their seeds."""

import numpy as np
import pytest
import torch
from data_files import PARTS, SHARES
from PIL import Image

from search_spaces.errors import InvalidInputError
from trainers.data.datasets import ImageData
from trainers.data.image_set import DataError, ImageSet, Subset
from trainers.data.readers import read_digits
from trainers.data.splits import Split, make_splits

# Subsets and splits.


def plain_set(
    counts: tuple[int, ...], *, channels: int = 1, side: int = 6, is_test: torch.Tensor | None = None
) -> ImageSet:
    """Image i is grey at level i + 1 all over, so that it can be recognised after any shift."""
    labels = torch.tensor([label for label, num in enumerate(counts) for _ in range(num)])
    images = torch.arange(1, len(labels) + 1, dtype=torch.uint8)[:, None, None, None]
    return ImageSet("plain", images.repeat(1, channels, side, side), labels, len(counts), is_test, "made here")


def test_a_limit_takes_equally_many_of_each_class_and_grows_by_adding() -> None:
    labels, is_test = torch.arange(400) % 4, torch.arange(400) >= 300
    small = Subset(train=40, test=12, seed=3).indices(labels, is_test)
    large = Subset(train=80, test=40, seed=3).indices(labels, is_test)
    assert labels[small[small < 300]].bincount().tolist() == [10] * 4
    assert labels[small[small >= 300]].bincount().tolist() == [3] * 4
    assert set(small.tolist()) < set(large.tolist())
    assert small.tolist() != Subset(train=40, test=12, seed=4).indices(labels, is_test).tolist()


def test_a_limit_on_tests_of_a_set_without_them_is_refused() -> None:
    with pytest.raises(DataError, match="limit_test=5"):
        read_digits(subset=Subset(test=5))


def test_splits_are_disjoint_complete_and_stratified() -> None:
    splits = make_splits(plain_set((40, 80, 20)), SHARES, seed=0)
    labels = plain_set((40, 80, 20)).labels
    # Of 40: 0.2 for tests, 8; of the other 32 a half and two quarters, 16, 8, 8.
    expected = {"weights": [16, 32, 8], "architecture": [8, 16, 4], "validation": [8, 16, 4], "test": [8, 16, 4]}
    parts = {name: getattr(splits, name) for name in PARTS}
    assert {name: labels[part].bincount().tolist() for name, part in parts.items()} == expected
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(140))


def test_a_sets_own_test_part_is_the_test_split() -> None:
    is_test = torch.zeros(48, dtype=torch.bool)
    is_test[[0, 7, 30]] = True
    splits = make_splits(plain_set((24, 24), is_test=is_test), SHARES, seed=0)
    assert splits.test.tolist() == [0, 7, 30]


def test_the_hash_follows_seed_pixels_labels_and_nothing_else() -> None:
    image_set = plain_set((20, 20))
    torch.manual_seed(1)
    first = make_splits(image_set, SHARES, seed=5).hash
    torch.manual_seed(2)
    assert make_splits(plain_set((20, 20)), SHARES, seed=5).hash == first
    hashes = {first, make_splits(image_set, SHARES, seed=6).hash}
    image_set.images[3, 0, 0, 0] += 1
    hashes.add(make_splits(image_set, SHARES, seed=5).hash)
    image_set = plain_set((20, 20))
    image_set.labels[[0, 39]] = image_set.labels[[39, 0]]
    hashes.add(make_splits(image_set, SHARES, seed=5).hash)
    assert len(hashes) == 4
    assert image_set.digest() != plain_set((20, 20)).digest()


def test_too_few_images_for_the_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few for the splits: architecture gets 0.*\[0, 1\].*raise limit"):
        make_splits(plain_set((2, 2)), SHARES, seed=0)
    with pytest.raises(DataError, match=r"shares\.test is null"):
        make_splits(plain_set((40, 40)), SHARES.model_copy(update={"test": None}), seed=0)
    with pytest.raises(DataError, match="test gets 0"):
        make_splits(plain_set((40, 40), is_test=torch.zeros(80, dtype=torch.bool)), SHARES, seed=0)


# Batches.


def plain_data(*, shift: int = 0, flip: bool = False, channels: int = 3) -> ImageData:
    image_set = plain_set((80, 80))
    splits = make_splits(image_set, SHARES, seed=0)
    return ImageData(image_set, splits, image_size=(6, 6), channels=channels, shift=(shift, shift), flip=flip)


def levels(data: ImageData, images: torch.Tensor) -> torch.Tensor:
    """Bytes (B, channels, H, W) again, of a normalised batch."""
    pixels = images.permute(0, 2, 3, 1) * data.std + data.mean
    assert pixels.mul(255).sub(pixels.mul(255).round()).abs().max() < 1e-3  # float32 of values below 256
    return pixels.mul(255).round().long().permute(0, 3, 1, 2)


def order(
    data: ImageData, *, split: Split = "weights", seed: int = 0, epoch: int = 0, augment: bool = True
) -> list[int]:
    batches = data.batches(split, batch_size=8, seed=seed, epoch=epoch, augment=augment)
    return [int(v) for images, _ in batches for v in levels(data, images).amax(dim=(1, 2, 3))]


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    data = plain_data()
    torch.manual_seed(1)
    first = order(data)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert order(plain_data()) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(first), tuple(order(data, epoch=1)), tuple(order(data, seed=1))}) == 3
    assert sorted(order(data, epoch=1)) == sorted(first) == (data.splits.weights + 1).tolist()


def test_augmented_batches_keep_label_pairs_dtype_range_and_layout() -> None:
    data = plain_data(shift=2, flip=True)
    for images, labels in data.batches("weights", batch_size=16, seed=0, epoch=0, augment=True):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64 and images.shape == (16, 3, 6, 6)
        assert images.is_contiguous(memory_format=torch.channels_last)
        found = levels(data, images)
        level_B = found.amax(dim=(1, 2, 3))
        assert labels.tolist() == (level_B > 80).long().tolist()  # images 1..80 are of class 0
        assert ((found == 0) | (found == level_B[:, None, None, None])).all()
        assert (found == level_B[:, None, None, None]).flatten(1).sum(1).min() >= 3 * 4 * 4  # 6 less a shift of 2


def one_pixel_data(*, shift: int, flip: bool) -> ImageData:
    """Images of 7 x 7, black but for row 3, column 2."""
    image_set = plain_set((500, 500), side=7)
    image_set.images.zero_()
    image_set.images[:, :, 3, 2] = 255
    splits = make_splits(image_set, SHARES, seed=0)
    return ImageData(image_set, splits, image_size=(7, 7), channels=1, shift=(shift, shift), flip=flip)


def pixel_places(data: ImageData, *, augment: bool = True) -> set[tuple[int, int]]:
    ((images, _),) = data.batches("weights", batch_size=400, seed=0, epoch=0, augment=augment)
    places = (images[:, 0] > 0).nonzero()
    assert places[:, 0].tolist() == list(range(400))
    return {(row, column) for _, row, column in places.tolist()}


def test_shifts_reach_every_offset_and_mirroring_only_where_asked() -> None:
    assert pixel_places(one_pixel_data(shift=1, flip=False)) == {(r, c) for r in (2, 3, 4) for c in (1, 2, 3)}
    assert pixel_places(one_pixel_data(shift=0, flip=True)) == {(3, 2), (3, 4)}
    assert pixel_places(one_pixel_data(shift=0, flip=False)) == {(3, 2)}
    assert pixel_places(one_pixel_data(shift=1, flip=True), augment=False) == {(3, 2)}


def test_augmentation_is_a_function_of_seed_epoch_and_batch() -> None:
    data = one_pixel_data(shift=3, flip=True)

    def moves(seed: int, epoch: int) -> list[str]:
        batches = data.batches("weights", batch_size=100, seed=seed, epoch=epoch, augment=True)
        return [str((images[:, 0] > 0).nonzero().tolist()) for images, _ in batches]

    assert moves(0, 0) == moves(0, 0)
    assert len({*moves(0, 0), *moves(0, 1), *moves(1, 0)}) == 12


def test_training_drops_the_incomplete_batch_and_evaluation_keeps_it() -> None:
    data = plain_data()  # 64 images of weights, 32 of validation
    assert [len(y) for _, y in data.batches("weights", batch_size=30, seed=0, epoch=0, augment=True)] == [30, 30]
    assert [len(y) for _, y in data.batches("weights", batch_size=30, seed=0, epoch=0, augment=False)] == [30, 30, 4]
    assert [len(y) for _, y in data.batches("validation", batch_size=99, seed=0, epoch=0, augment=False)] == [32]


def test_batches_of_the_weights_split_have_mean_0_and_deviation_1() -> None:
    digits = read_digits()
    data = ImageData(digits, make_splits(digits, SHARES, seed=0), image_size=(8, 8), channels=3)
    images = torch.cat([x for x, _ in data.batches("weights", batch_size=100, seed=0, epoch=0, augment=False)])
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (images.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    assert torch.equal(images[:, 0], images[:, 2])


def test_images_are_resized_as_pillow_does() -> None:
    digits = read_digits(subset=Subset(train=200))
    data = ImageData(digits, make_splits(digits, SHARES, seed=0), image_size=(12, 16), channels=1)
    ((images, _),) = data.batches("test", batch_size=99, seed=0, epoch=0, augment=False)
    centres = digits.images[:, 0, 1:7].numpy()  # three rows for four columns, as 12 for 16
    resized = [Image.fromarray(im).resize((16, 12), Image.Resampling.BILINEAR) for im in centres]
    known = {np.asarray(im).astype(int).tobytes() for im in resized}
    near = torch.tensor(np.stack([np.asarray(im).astype(int) for im in resized]))
    for found in levels(data, images)[:, 0]:
        assert (near - found).abs().amax(dim=(1, 2)).min() <= 1  # rounding of one level; digits differ by far more
    assert len(known) == 200


def test_a_batch_larger_than_its_split_is_refused() -> None:
    data = plain_data()
    with pytest.raises(InvalidInputError) as refused:
        data.loader(batch_size=33, seed=0, epoch=lambda: 0)  # 64 images of weights, 32 of architecture
    assert refused.value.fields == ("trainer.batch_size",)
    data.loader(batch_size=32, seed=0, epoch=lambda: 0)
    coloured = plain_set((40, 40), channels=3)
    splits = make_splits(coloured, SHARES, seed=0)
    with pytest.raises(InvalidInputError) as refused:
        ImageData(coloured, splits, image_size=(6, 6), channels=1)
    assert refused.value.fields == ("data.channels",)


def test_blank_images_are_refused() -> None:
    image_set = plain_set((40, 40))
    image_set.images.fill_(7)
    with pytest.raises(DataError, match="one value only"):
        ImageData(image_set, make_splits(image_set, SHARES, seed=0), image_size=(6, 6), channels=1)


def test_the_loader_pairs_a_weights_pass_with_architecture_passes_in_new_orders() -> None:
    data, epoch = plain_data(shift=1), 0
    loader = data.loader(batch_size=16, seed=4, epoch=lambda: epoch)
    state = torch.get_rng_state()
    pairs = list(loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(loader) == len(pairs) == 4  # 64 images of weights, and twice the 32 of architecture
    direct = data.batches("weights", batch_size=16, seed=4, epoch=0, augment=True)
    for ((images, labels), _), (expected_images, expected_labels) in zip(pairs, direct, strict=True):
        assert torch.equal(images, expected_images) and torch.equal(labels, expected_labels)
    seen = [levels(data, images).amax(dim=(1, 2, 3)).tolist() for _, (images, _) in pairs]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == (data.splits.architecture + 1).tolist()
    assert seen[0] + seen[1] != seen[2] + seen[3]
    again = list(loader)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(pairs, again, strict=True))
    epoch = 1
    assert not torch.equal(next(iter(loader))[0][0], pairs[0][0][0])
