"""Networks of `mobile` at 32 pixels after equal retraining: those that searches find beside random ones.

    python tests/benchmarks/equal_retraining.py --data ../shared/data --runs runs [--images fashion_mnist]
        [--arms prior,random] [--seeds 3] [--jobs 2]

One search is for three devices at once; budgets on multiply-adds and on latency are at a quantile of both over random
networks, so that they bind. Every network is then trained from scratch by the same protocol, with the same data and the
seed of its search, and tested once. Two baselines of each device and seed: `near` are random networks that use at least
85 % of the binding budget, `of k` is the best of random ones within budget, found by training them as briefly as the
searches do. Differences are paired by device and seed; their standard error is over seeds, of the mean of devices.

What has finished in `--runs` is not repeated.
"""

import argparse
import platform
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tiny_search import composed

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import METRICS, Indices
from search_spaces.architecture import architecture_of, read_architecture
from search_spaces.space import SearchSpace
from trainers.cli.search import run_search
from trainers.deploy.retrain import retrain
from trainers.deploy.retrain_config import validate as validate_retraining
from trainers.deploy.retrain_job import identified as retraining
from trainers.runs.config import validate
from trainers.search.identification import identified
from trainers.search.plan import prepare

QUANTILES = {"flagship_phone": 50, "mid_tablet": 30, "iot_terminal": 15}  # of random networks, in % of each budget
NEAR, NUM_NEAR = 0.85, 2
SPACE = (
    "space.widths=[[8,16],[16,24],[24,32,48],[32,48,64],[48,64,96]]",
    "space.depths=[1,2,3]",
    "space.kernels=[3,5]",
    "space.expansions=[2,3,4]",
    "space.resolutions=[32]",
    "space.strides=[2,1,2,2,1,1]",
)
IMAGES = ("data.limit=4000", "data.limit_test=null", "data.image_size=[32,32]")
COMMON = (
    "margin=point",
    "trainer.deploy=false",
    "trainer.finetune_steps=0",
    "trainer.threads=1",
    "trainer.batch_size=64",
    "trainer.random_candidates=0",
)
UNTRAINED = ("trainer.steps=2",)
BRIEF = (*UNTRAINED, "evaluator=short_training", "trainer.candidates=16", "evaluator.steps=[60]")
SUPERNET = ("trainer.steps=600", "trainer.candidates=16", "arch_optimizer.lr=0.05", "trainer.prune_from=0.4")
CONSTRAINTS = ("pool", "alm", "dual", "penalty", "connas")
ARMS = {
    "of k": ("searcher=random", *BRIEF, "trainer.random_candidates=16"),
    "evolution": ("searcher=evolution", *BRIEF),
    "predictor": ("searcher=predictor", *BRIEF),
    "prior": ("searcher=prior", "prior=zero_cost", *BRIEF),
    **{name: (f"constraint={name}", *SUPERNET) for name in CONSTRAINTS},
    # At equal cost: a supernet's search beside as few random networks, and a longer one beside sixteen.
    "of 5": ("searcher=random", *BRIEF, "trainer.candidates=5", "trainer.random_candidates=5"),
    "longer": (*SUPERNET, "trainer.steps=2000", "trainer.candidates=32"),
}
PROTOCOL = ("epochs=20", "batch_size=64", "optimizer.lr=0.05", "label_smoothing=0.05", "threads=1")


@dataclass(frozen=True)
class Study:
    """Where data and run folders are, and which images are learned."""

    data: Path
    runs: Path
    images: str

    def overrides(self, runs: Path) -> list[str]:
        return [f"data={self.images}", *IMAGES, f"paths.data={self.data}", f"paths.runs={runs}"]


@dataclass(frozen=True)
class Found:
    """A network of a search or a draw: its file, and the share of its device's binding budget that it uses."""

    arm: str
    device: str
    seed: int
    file: Path
    used: float


def draw(space: SearchSpace, size: int, generator: np.random.Generator) -> Indices:
    """Networks drawn uniformly, by the positions of their choices, (size, n)."""
    return np.stack([generator.integers(len(d.choices), size=size) for d in space.decisions], axis=1)


def feasible(problem: BudgetProblem, number: int, *, seed: int, least_used: float = 0.0) -> Indices:
    """Networks drawn uniformly from those within budget that use at least so much of the binding one."""
    generator = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    while len(kept) < number:
        drawn = draw(problem.table.space, 4096, generator)
        totals = problem.table.of(drawn, problem.device)
        used = problem.shares(totals).max(axis=1)
        kept += list(drawn[problem.is_feasible(drawn) & (used >= least_used)])
    return np.array(kept[:number])


def with_budgets(study: Study) -> list[str]:
    """Overrides that set the budgets of each device at its quantile of random networks."""
    config = validate(composed(*SPACE, *COMMON, *study.overrides(study.runs)))
    plan = prepare(config)
    drawn, found = draw(plan.table.space, 4096, np.random.default_rng(0)), []
    for problem in plan.problems:
        for metric in ("gflops", "latency_ms"):
            totals = plan.table.of(drawn, problem.device)[:, METRICS.index(metric)]
            total = float(np.percentile(totals, QUANTILES[problem.name]))
            limit = problem.profile.estimate(metric, total)
            found.append(f"hardware.{problem.name}.budgets.{metric}={limit:.4g}")
    return found


def search(study: Study, arm: str, seed: int, budgets: Sequence[str]) -> list[Found]:
    """The networks that an arm finds for all devices."""
    runs = study.runs / "searches"
    asked = composed(
        *SPACE, *COMMON, *ARMS[arm], *budgets, f"seed={seed}", f"sweep={study.images}", *study.overrides(runs)
    )
    config = identified(validate(asked))
    result = run_search(config, report=lambda line: None)
    return [
        Found(arm, name, seed, config.run_folder / device.architecture, device.used)
        for name, device in result.devices.items()
    ]


def near(study: Study, problem: BudgetProblem, seed: int) -> list[Found]:
    """Random networks that use most of the binding budget."""
    folder = study.runs / "near" / study.images
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for k, indices in enumerate(feasible(problem, NUM_NEAR, seed=seed, least_used=NEAR)):
        file = folder / f"{problem.name}-{seed}-{k}.json"
        space = problem.table.space
        file.write_text(architecture_of(space, space.choices(indices)).to_json(), encoding="utf-8")
        found.append(Found("near", problem.name, seed, file, max(problem.utilisation(indices).values())))
    return found


def retrained(study: Study, file: Path, seed: int) -> float:
    """Test accuracy in % of one network after the protocol."""
    warnings.filterwarnings("ignore")
    asked = composed(*PROTOCOL, f"architecture={file}", f"seed={seed}", *study.overrides(study.runs), app="retrain")
    job = retraining(validate_retraining(asked))
    return 100 * retrain(job, report=lambda line: None).test_accuracy.mean


def networks(study: Study, arms: Sequence[str], seeds: Sequence[int], budgets: Sequence[str]) -> list[Found]:
    config = validate(composed(*SPACE, *COMMON, *budgets, *study.overrides(study.runs)))
    plan = prepare(config)
    found = []
    for seed in seeds:
        for arm in arms:
            if arm == "near":
                found += [network for problem in plan.problems for network in near(study, problem, seed)]
            else:
                found += search(study, arm, seed, budgets)
            print(f"networks of {arm}, seed {seed}", flush=True)
    return found


def by_seed(found: Sequence[Found], accuracies: Sequence[float], arm: str) -> dict[int, float]:
    """Mean accuracy of each seed, over devices and over what the arm has of each."""
    return {
        seed: mean(a for f, a in zip(found, accuracies, strict=True) if (f.arm, f.seed) == (arm, seed))
        for seed in sorted({f.seed for f in found})
    }


def spread(values: Sequence[float]) -> str:
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{mean(values):6.2f} ± {error:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--runs", type=Path, required=True, help="folder that keeps searches and trainings")
    parser.add_argument("--images", choices=("cifar10", "fashion_mnist"), default="cifar10")
    parser.add_argument("--arms", default="near,of k,evolution,predictor", help=f"of near, {', '.join(ARMS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    study = Study(arguments.data.resolve(), arguments.runs.resolve(), arguments.images)
    arms = arguments.arms.split(",")
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {date.today()}, {study.images}")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    budgets = with_budgets(study)
    print(*budgets, sep="\n", flush=True)
    found = networks(study, arms, seeds, budgets)
    accuracies = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        keys = [(read_architecture(f.file).id, f.seed) for f in found]
        of_key = dict(zip(keys, found, strict=True))  # the same network once
        futures = {key: pool.submit(retrained, study, f.file, f.seed) for key, f in of_key.items()}
        for network, key in zip(found, keys, strict=True):
            accuracy = futures[key].result()
            accuracies.append(accuracy)
            print(
                f"{network.arm:8} {network.device:15} {network.seed} {network.used:5.0%} {accuracy:6.2f} %", flush=True
            )
    print(f"{'arm':8} {'used':>5} {'test %':>14}   " + "   ".join(f"{arm} less it" for arm in arms))
    for arm in arms:
        own = by_seed(found, accuracies, arm)
        others = [by_seed(found, accuracies, other) for other in arms]
        differences = [spread([other[seed] - own[seed] for seed in own]) for other in others]
        used = mean(f.used for f in found if f.arm == arm)
        print(f"{arm:8} {used:5.0%} {spread(list(own.values()))}   " + "   ".join(differences))


if __name__ == "__main__":
    main()
