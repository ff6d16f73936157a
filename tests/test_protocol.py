"""Each element of a training protocol gives the figures that are worked out by hand."""

from dataclasses import replace
from math import log

import pytest
import torch
from data_files import SHARES
from torch import Tensor, nn

from trainers.data.datasets import DataConfig, load_data
from trainers.data.image_set import key_generator
from trainers.data.task import Classification
from trainers.deploy.protocol import Average, Protocol, Teacher, cut_out, distillation_loss, mixing_share
from trainers.deploy.standalone import fit

DIGITS = DataConfig(name="digits", image_size=None, limit=400, shares=SHARES, flip=True, shift=1)
PLAIN = Protocol(Classification(), batch_size=2)
KEY = (0, 0, 0)


class Given(nn.Module):
    """Gives the same logits for every image, and remembers the images."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits_K, self.seen = nn.Parameter(torch.tensor(logits)), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.logits_K.expand(len(x), -1)


def flat_images(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 1, 2, 2)


def test_label_smoothing_gives_all_classes_a_share_of_the_label() -> None:
    # Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4); of the label 0.3 goes to three classes alike.
    loss = Classification().smoothed(0.3).loss(torch.tensor([[log(2), 0.0, 0.0]]), torch.tensor([0]))
    assert float(loss) == pytest.approx(0.8 * log(2) + 0.2 * log(4), rel=1e-6)
    assert float(Classification().smoothed(0.0).loss(torch.zeros(1, 4), torch.tensor([1]))) == pytest.approx(log(4))


def test_class_weights_and_smoothing_stay_beside_each_other() -> None:
    weights = torch.tensor([3.0, 1.0])
    outputs, targets = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    tasks = (Classification(weights).smoothed(0.1), Classification().smoothed(0.1).weighted(weights))
    one, other = (float(task.loss(outputs, targets)) for task in tasks)
    assert one == other != float(Classification(weights).loss(outputs, targets))


def test_mixup_mixes_images_and_losses_in_the_same_shares() -> None:
    network, y = Given([log(3), 0.0]), torch.tensor([0, 1])
    protocol, are_swapped = replace(PLAIN, mixup=1.0), False
    for k in range(10):
        loss = protocol.loss(network, (flat_images(1.0, 5.0), y), key=(0, 0, k)).item()
        one, other = network.seen[:, 0, 0, 0].tolist()
        if one == 1.0:  # an image may be mixed with itself
            assert other == 5.0
            assert loss == pytest.approx((log(4 / 3) + log(4)) / 2, rel=1e-6)
            continue
        share = (5.0 - one) / 4.0
        assert other == pytest.approx(share * 5 + (1 - share) * 1, rel=1e-5)
        # Softmax of (ln 3, 0) is (3/4, 1/4): both images have each label in the shares that they are mixed in.
        assert loss == pytest.approx((log(4 / 3) + log(4)) / 2, rel=1e-5)
        are_swapped = True
    assert are_swapped
    single = protocol.loss(network, (flat_images(1.0), y[:1]), key=KEY).item()
    assert single == pytest.approx(log(4 / 3), rel=1e-6)


def test_mixup_weighs_the_loss_of_each_label_by_the_share_of_its_image() -> None:
    class First(nn.Module):
        """The level of an image is the logit of class 0."""

        def forward(self, x: Tensor) -> Tensor:
            level = x.mean((1, 2, 3))
            return torch.stack([level, torch.zeros_like(level)], dim=1)

    y = torch.tensor([0, 1])
    for k in range(10):
        generator = key_generator("mixup", 0, 0, k)
        share, partner = mixing_share(1.0, generator), torch.randperm(2, generator=generator)
        if partner.tolist() == [1, 0]:
            break
    loss = replace(PLAIN, mixup=1.0).loss(First(), (flat_images(2.0, 0.0), y), key=(0, 0, k))
    levels = (share * 2.0, (1 - share) * 2.0)
    right = [torch.tensor(level).sigmoid().item() for level in levels]  # the probability of class 0
    by_hand = [share * -log(right[0]) + (1 - share) * -log(1 - right[0])]
    by_hand += [share * -log(1 - right[1]) + (1 - share) * -log(right[1])]
    assert float(loss) == pytest.approx(sum(by_hand) / 2, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_of_mixup_have_the_moments_of_their_distribution(alpha: float) -> None:
    shares = torch.tensor([mixing_share(alpha, key_generator("mixup", k)) for k in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert float(shares.mean()) == pytest.approx(0.5, abs=4 * (variance / 4000) ** 0.5)  # four standard errors
    assert float(shares.var()) == pytest.approx(variance, rel=0.1)


def test_cutout_takes_a_square_that_an_edge_may_cut_off() -> None:
    kept = cut_out(torch.ones(4000, 3, 10, 10), 4, torch.Generator().manual_seed(0))
    assert ((kept == 0).all(1) == (kept == 0).any(1)).all()  # of all channels alike
    holes = (kept[:, 0] == 0).float()
    rows, columns = holes.amax(2).sum(1), holes.amax(1).sum(1)
    assert (holes.sum((1, 2)) == rows * columns).all()
    # About the pixels of a side 2, 3, seven times 4 and 3 pixels are cut out: 3.6 on average, in both directions.
    assert set(rows.tolist()) == {2, 3, 4}
    assert float(holes.sum((1, 2)).mean()) == pytest.approx(3.6**2, rel=0.02)  # five standard errors


def test_a_batch_is_cut_out_before_the_network_sees_it() -> None:
    network = Given([0.0, 0.0])
    x = torch.ones(2, 1, 8, 8)
    replace(PLAIN, cutout=2).loss(network, (x, torch.tensor([0, 1])), key=KEY)
    assert [int((image == 0).sum()) in (1, 2, 4) for image in network.seen] == [True, True]
    assert (x == 1).all()


def test_the_average_forgets_its_beginning_and_then_keeps_its_decay() -> None:
    network = nn.BatchNorm1d(1)
    average, brief = Average(network, 0.9), Average(network, 0.1)
    for value in (2.0, 4.0):
        with torch.no_grad():
            network.weight.fill_(value)
        network.running_mean.fill_(value)
        network.num_batches_tracked += 1
        average.update(network)
        brief.update(network)
    # It keeps 2/11 of 1, then 3/12: 20/11, then 3/12 of that and 9/12 of 4.
    assert average.network.weight.item() == pytest.approx(0.25 * (2 / 11 * 1 + 9 / 11 * 2) + 0.75 * 4)
    assert average.network.running_mean.item() == pytest.approx(0.25 * (9 / 11 * 2) + 0.75 * 4)
    assert average.network.num_batches_tracked.item() == 2
    assert brief.network.weight.item() == pytest.approx(0.1 * (0.1 * 1 + 0.9 * 2) + 0.9 * 4)


def test_distillation_is_the_divergence_from_the_softened_teacher() -> None:
    # Softened by 2 the teacher gives (3/4, 1/4), the student (1/2, 1/2).
    taught = torch.tensor([[2 * log(3), 0.0]])
    divergence = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    assert float(distillation_loss(torch.zeros(1, 2), taught, 2.0)) == pytest.approx(4 * divergence, rel=1e-5)
    teacher = Teacher(lambda x: taught, weight=0.3, temperature=2.0)
    loss = (
        replace(PLAIN, teacher=teacher).loss(Given([0.0, 0.0]), (flat_images(1.0), torch.tensor([1])), key=KEY).item()
    )
    assert loss == pytest.approx(0.7 * log(2) + 0.3 * 4 * divergence, rel=1e-5)


def test_a_teacher_sees_what_the_network_sees_cut_out_and_mixed() -> None:
    seen: list[Tensor] = []

    def teach(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 2)

    protocol = replace(PLAIN, mixup=1.0, cutout=1, teacher=Teacher(teach, weight=0.5, temperature=1.0))
    student = Given([0.0, 0.0])
    protocol.loss(student, (flat_images(1.0, 5.0), torch.tensor([0, 1])), key=KEY)
    assert len(seen) == 1 and torch.equal(seen[0], student.seen)
    assert len(student.seen.unique()) > 2  # levels of neither image


def test_the_pixels_of_a_batch_are_those_that_were_normalised() -> None:
    data = load_data(DIGITS)
    x, _ = next(data.batches("weights", batch_size=8, seed=3, epoch=1, augment=True))
    pixels = data.pixels_of(x)
    assert pixels.dtype == torch.uint8 and pixels.shape == (8, *data.image_size, data.stored_channels)
    again = ((pixels.float() / 255 - data.mean) / data.std).permute(0, 3, 1, 2)
    assert torch.allclose(again, x, atol=1e-5) and len(pixels.unique()) > 8
    assert data.pixels_of(torch.zeros(1, data.channels, 1, 1)).item() == round(255 * float(data.mean[0]))


def test_joined_data_train_on_both_training_splits_and_keep_the_others() -> None:
    apart, joined = load_data(DIGITS).splits, load_data(DIGITS, joined=True).splits
    assert set(joined.weights.tolist()) == {*apart.weights.tolist(), *apart.architecture.tolist()}
    assert len(joined.architecture) == 0
    assert torch.equal(joined.validation, apart.validation) and torch.equal(joined.test, apart.test)


def test_a_network_is_fitted_to_the_bit_as_by_a_loop_of_the_usual_lines() -> None:
    data, networks = load_data(DIGITS), []
    for by_hand in (True, False):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        if not by_hand:
            fit(network, data, optimizer, schedule, steps=12, batch_size=32, seed=5, clip_norm=0.5)
        batches = (b for e in range(3) for b in data.batches("weights", batch_size=32, seed=5, epoch=e, augment=True))
        for x, y in [batch for _, batch in zip(range(12), batches, strict=False)] if by_hand else []:
            optimizer.zero_grad()
            data.task.loss(network(x), y).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.5)
            optimizer.step()
            schedule.step()
        networks.append(network.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
