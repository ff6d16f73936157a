"""Evaluators and remedies of one's own: a search that trains no supernet, and training changed by hooks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_search import MOBILE, TINY, composed, tiny_config
from torch import Tensor

import trainers.search.run
from search_spaces.errors import InvalidInputError, keys_of
from search_spaces.space import Selection
from trainers.analysis.loading import load_run
from trainers.cli.plugin_sections import offer_sections
from trainers.cli.search import run_search
from trainers.deploy.standalone import Score
from trainers.reports.report import write_report
from trainers.reports.verify import verify_run
from trainers.runs.config import validate
from trainers.runs.result import Result
from trainers.search.evaluation import EVALUATORS, Evaluator
from trainers.search.plan import part_problems
from trainers.search.relaxations.relaxation import Batch
from trainers.search.remedies import REMEDIES, Remedy
from trainers.search.run import run
from trainers.search.strategy import DEFAULT, needs_supernet

SMALL = (*TINY, "hardware=[mid_tablet]", "trainer.candidates=1")


@EVALUATORS.register("by_size")
class BySize(Evaluator):
    """The smaller of two networks is the better one."""

    def __init__(self, plan: Any, supernet: Any, *, largest: float = 1e9) -> None:
        super().__init__(plan, supernet)
        self.largest = largest

    def validate(self, indices: tuple[int, ...]) -> Score:
        operations = self.plan.space.operations(self.plan.space.choices(indices))
        return Score(1 - sum(op.params for op in operations) / self.largest, loss=0.0, images=0)


@REMEDIES.register("pull")
class Pull(Remedy):
    """Pulls probabilities together, and notes which hooks are called."""

    calls: list[str]

    def __init__(self, searched: Any, *, strength: float = 0.0) -> None:
        super().__init__(searched)
        self.strength, self.number = strength, 0
        Pull.calls = []

    def before_step(self, progress: float) -> None:
        assert 0 <= progress < 1
        self.number += 1
        Pull.calls.append("before_step")

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        assert [set(selection) for selection in selections] == [
            {d.name for d in self.searched.state.table.space.decisions}
        ]
        assert any(weight.grad is not None for weight in self.searched.supernet.parameters())
        assert len(weights_batch[1]) == len(architecture_batch[1])
        Pull.calls.append("on_weights_gradient")

    def architecture_loss(self, device: int, p_N: Tensor) -> Tensor:
        assert p_N.requires_grad
        Pull.calls.append("architecture_loss")
        return self.strength * p_N.square().sum()

    def after_training(self) -> None:
        Pull.calls.append("after_training")

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.number = state["number"]


@pytest.fixture(scope="module")
def without_supernet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, list[str]]:
    """A run of random search by a table."""
    overrides = ("searcher={name:random}", "evaluator={name:by_size,largest:1e8}")
    config, lines = tiny_config(tmp_path_factory.mktemp("runs"), *TINY, *overrides), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers.search.run, "train", lambda *given, **more: pytest.fail("a supernet is trained"))
        return config.run_folder, run_search(config, lines.append), lines


def test_a_search_by_a_table_trains_no_supernet_and_ends_with_certificates(
    without_supernet: tuple[Path, Result, list[str]],
) -> None:
    folder, result, _ = without_supernet
    assert (result.status, result.search.steps, result.search.entropy) == ("done", 0, None)
    for device in result.devices.values():
        assert device.met and device.recounted["gflops"] == pytest.approx(device.predicted["gflops"])
        assert device.taken.validation_accuracy == max(row.validation_accuracy for row in device.candidates)
        accuracy = device.accuracy
        assert (accuracy.supernet, accuracy.inherited, accuracy.random) == (None, None, None)
        assert 0 <= accuracy.finetuned <= 1 and accuracy.images == result.data.images.test
    assert not {"metrics.csv", "alphas.npz"} & {path.name for path in folder.iterdir()}


def test_a_search_that_trains_no_supernet_cannot_be_asked_to_keep_one(tmp_path: Path) -> None:
    parts = ("searcher={name:random}", "evaluator={name:by_size}", "trainer.keep=supernet")
    with pytest.raises(InvalidInputError) as refused:
        run(tiny_config(tmp_path, *TINY, *parts), lambda line: None)
    assert refused.value.fields == ("trainer.keep",)


def test_a_run_without_supernet_is_verified_loaded_and_found_again(
    without_supernet: tuple[Path, Result, list[str]],
) -> None:
    folder, result, _ = without_supernet
    assert [check.line for check in verify_run(folder) if check.outcome == "FAILED"] == []
    loaded = load_run(folder)
    assert loaded.result == result and loaded.devices["accuracy_inherited"].isna().all()
    assert (folder / "report.html").is_file()
    write_report(folder.parent)  # of the sweep
    assert (folder.parent / "report.html").is_file()


def test_the_network_of_a_search_without_supernet_is_trained_from_scratch(tmp_path: Path) -> None:
    """More steps make other weights; fine-tuning, of one step here, has no part in it."""
    digests = []
    for overrides in (("trainer.steps=1",), ("trainer.steps=1", "trainer.finetune_steps=9"), ("trainer.steps=2",)):
        given = (*SMALL, "searcher={name:random}", "evaluator={name:by_size}", *overrides)
        result = run(tiny_config(tmp_path, *given), lambda line: None)
        digests.append(result.files["weights/mid_tablet.safetensors"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("searcher", "evaluator", "needed"),
    [
        ("random", "by_size", False),
        ("differentiable", "by_size", True),
        ("random", "inherited", True),
    ],
)
def test_a_supernet_is_trained_where_the_searcher_or_the_evaluator_needs_one(
    searcher: str, evaluator: str, needed: bool
) -> None:
    parts = {part: {"name": name} for part, name in DEFAULT.items()}
    assert needs_supernet(parts | {"searcher": {"name": searcher}, "evaluator": {"name": evaluator}}) is needed


def test_a_remedy_hooks_into_each_step_and_changes_what_the_logits_take(tmp_path: Path) -> None:
    def found(*overrides: str) -> Result:
        given = (*SMALL, "trainer.warmup_share=0", "trainer.arch_every=2", *overrides)
        return run(tiny_config(tmp_path, *given), lambda line: None)

    plain, changed = found(), found("remedy={pull:{strength:100.0}}")
    assert plain.files["alphas.npz"] != changed.files["alphas.npz"]
    step = ["before_step", "on_weights_gradient"]
    assert Pull.calls == [*([*step, "architecture_loss", *step] * 3), "after_training"]
    assert found("remedy={pull:{strength:0.0}}").files["alphas.npz"] == plain.files["alphas.npz"]


def test_remedies_are_chosen_like_devices_several_at_once() -> None:
    offer_sections(["remedy=[pull]"])
    assert composed(*MOBILE, "remedy=[pull]", "remedy.pull.strength=2.0")["remedy"] == {"pull": {"strength": 2.0}}
    assert composed(*MOBILE, "remedy=pull")["remedy"] == {"pull": {"strength": 0.0}}
    assert composed(*MOBILE, "evaluator=inherited")["evaluator"] == {"name": "inherited"}


def test_an_evaluator_and_remedies_are_part_of_the_run_only_where_they_are_named(tmp_path: Path) -> None:
    plain = composed(*MOBILE)
    old = {key: value for key, value in plain.items() if key not in ("evaluator", "remedy")}
    keys = [validate(old).run_key, validate(plain).run_key]
    keys += [validate(plain | {"evaluator": {"name": name}}).run_key for name in ("inherited", "by_size")]
    keys += [validate(plain | {"remedy": {"pull": {"strength": strength}}}).run_key for strength in (1.0, 2.0)]
    assert keys[0] == keys[1] and len(set(keys)) == 5


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("evaluator={name:by_colour}", "evaluator.name"),
        ("evaluator={name:by_size,smallest:1.0}", "evaluator.smallest"),
        ("remedy={pull:{strength:much}}", "remedy.pull.strength"),
        ("remedy={pull:{weight:1.0}}", "remedy.pull.weight"),
        ("remedy={push:{}}", "remedy.push.name"),
    ],
)
def test_a_wrong_evaluator_or_remedy_is_refused_by_its_key(tmp_path: Path, override: str, key: str) -> None:
    (problem,) = part_problems(tiny_config(tmp_path, *TINY, override))
    assert keys_of(problem) == (key,)
