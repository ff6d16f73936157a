"""Spaces fit the images that they are for, and choices that compute the same at the trained size are refused."""

from typing import Any

import pytest
import torch
import yaml
from spaces import ROOT
from tiny_search import CELL_SPACE, MOBILE_SPACE, SHORT, composed

from search_spaces.architecture import make_space
from search_spaces.errors import InvalidInputError
from search_spaces.mobile.space import LARGE_STRIDES, MobileSpace
from search_spaces.trained_shape import idle_choices
from trainers.runs.config import validate
from trainers.search.plan import prepare


def shipped(name: str, size: tuple[int, int], **changes: Any) -> Any:
    content = yaml.safe_load((ROOT / "conf" / "space" / f"{name}.yaml").read_text(encoding="utf-8"))
    return make_space(content | changes, num_classes=10, channels=1, image_size=size)


def test_for_large_images_mobile_has_the_strides_and_resolutions_of_its_papers() -> None:
    space = shipped("mobile", (224, 224))
    assert space.strides == LARGE_STRIDES and space.resolutions == (128, 160, 192, 224)


@pytest.mark.parametrize("side", [16, 24, 28, 32, 48, 63])
def test_below_64_pixels_the_stem_keeps_the_map_and_every_kernel_has_room(side: int) -> None:
    space = shipped("mobile", (side, side))
    assert space.strides[0] == 1
    assert max(space.resolutions) == side
    assert min(space.map_into(5, side)) >= (max(space.kernels) + 1) // 2


def test_a_network_of_wide_images_is_priced_and_drawn_for_wide_images() -> None:
    space = shipped("mobile", (48, 64))
    choices = space.choices([0] * len(space.decisions))
    largest = choices | {"resolution": max(space.resolutions)}
    assert space.input_shape(largest) == (1, 48, 64)
    first, *_ = space.operations(largest)
    assert first.in_shape == (1, 48, 64)
    assert "48 × 64" in space.draw(largest)
    output = space.network(largest).eval()(torch.zeros(1, 1, 48, 64))
    assert output.shape == (1, 10)


def test_cells_left_open_take_the_size_of_the_images() -> None:
    assert shipped("nasbench201", (20, 30), image_size=None).deploy_shape == (1, 20, 30)
    assert shipped("nasbench201", (20, 30)).deploy_shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["mobile", "nasbench201"])
def test_a_space_that_fits_its_images_has_no_idle_choice(name: str) -> None:
    assert idle_choices(shipped(name, (16, 16)), (1, 16, 16)) == []


def test_kernels_beyond_the_map_are_found_and_all_others_not() -> None:
    space = MobileSpace.small(resolutions=[16], kernels=[3, 5, 7], channels=1)
    found = {(idle.decision, idle.choices) for idle in idle_choices(space, (1, 16, 16))}
    expected = set()
    for name in space.blocks:
        side = space.map_into(name.stage + (1 if name.block else 0), 16)[0]  # which the depthwise convolution reads
        for pair in ((3, 5), (5, 7)):
            if min(pair[1], 2 * side - 1) == min(pair[0], 2 * side - 1):  # no tap of the larger reaches further
                expected.add((name.own("kernel"), pair))
    assert found == expected and len(found) > 5


def test_a_search_that_cannot_tell_choices_apart_is_refused_by_their_names() -> None:
    config = validate(composed(*MOBILE_SPACE, *SHORT, "data.image_size=[16,16]"))
    with pytest.raises(InvalidInputError) as refused:
        prepare(config)
    assert "kernel" in str(refused.value) and "data.image_size" in str(refused.value)
    prepare(validate(composed(*MOBILE_SPACE, *SHORT)))


def test_a_grey_set_is_trained_and_priced_with_its_channel_or_with_three_if_asked() -> None:
    for asked, channels in (("null", 1), ("3", 3)):
        plan = prepare(validate(composed(*CELL_SPACE, *SHORT, f"data.channels={asked}")))
        assert plan.data.channels == plan.space.deploy_shape[0] == channels
        images, _ = next(plan.data.batches("test", batch_size=2, seed=0, epoch=0, augment=False))
        assert images.shape[1] == channels
