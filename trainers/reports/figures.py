"""The figures of each device as result.json tells them, beside those that the run's files give again."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from hardware_models.measuring.measure import RUNTIME, Measurement
from trainers.reports.check import Check, compared, differences, gathered, judged
from trainers.reports.recount import Rebuilt, Told
from trainers.runs.config import SearchConfig
from trainers.runs.files import read_json
from trainers.runs.state import architecture_file, weights_file
from trainers.search.certificate import COUNTED_TO, hold
from trainers.search.plan import measured_devices
from trainers.search.prune_log import replay_network
from trainers.search.result_writer import NOT_AT_HAND

HOST = "its prices were measured on the machine that searched, when it did"
DEVICE_FIELDS = (
    *("architecture", "weights", "id", "notation", "met", "refuted_by", "binding", "budgets", "margin", "utilisation"),
    *("predicted", "upper", "upper_level", "upper_subject", "held", "held_by", "recounted", "measured"),
    *("measured_reason", "placement", "cut", "accuracy", "validation", "larger_candidates_that_lost", "taken"),
    *("candidates", "random_candidates", "profile"),
)
OF_A_HOST = ("error", "error_reason", "bound", "source", "measured", "inferred")  # what is measured of its profile
ACCURACIES = ("supernet", "inherited", "finetuned", "random")


def device_checks(config: SearchConfig, result: Mapping[str, Any], rebuilt: Rebuilt) -> Iterator[Check]:
    """Checks of which devices there are, of their common space, and of the table of its prices."""
    devices, hosts = result["devices"], rebuilt.hosts
    yield compared("devices", list(devices), list(config.hardware), field="devices")
    specs = {name: dict(network.architecture.spec) for name, network in rebuilt.networks.items()}
    yield compared("space of the networks", specs, dict.fromkeys(specs, rebuilt.space.spec()), field="spec")
    if hosts:
        yield Check("cost table", "not checked", f"{', '.join(hosts)}: {HOST}", ("hashes.cost_table",))
    else:
        yield compared("cost table", result["hashes"]["cost_table"], rebuilt.table.digest, field="hashes.cost_table")


def figure_checks(told: Told) -> list[Check]:
    """Checks of a device's files and figures."""
    parts = (_identity, _costs, _measured, _accuracy)
    return [check for part in parts for check in gathered(f"{told.name}: network", partial(part, told))]


def _identity(told: Told) -> Iterator[Check]:
    name, device, network = told.name, told.device, told.network
    yield compared(f"{name}: fields", dict.fromkeys(device), dict.fromkeys(DEVICE_FIELDS), field=told.field)
    files = {"architecture": architecture_file, "weights": weights_file}
    paths = {key: path(told.folder, name).relative_to(told.folder).as_posix() for key, path in files.items()}
    yield _same(told, "architecture", {"id": network.architecture.id, **paths})
    yield _origin(told)
    choices = told.rebuilt.space.choices(network.indices)
    yield _same(told, "notation", {"notation": told.rebuilt.space.notation(choices)})
    if network.weights_fault is not None:
        yield Check(f"{name}: network", "FAILED", network.weights_fault)
    left = replay_network(told.folder / "prune.csv", told.rebuilt.space, name)
    own = told.rebuilt.decided_by(name)  # where other devices would run it is left to chance
    logged, chosen = {key: left[key] for key in own}, {key: choices[key] for key in own}
    yield compared(f"{name}: pruning log", logged, chosen, field=name)


def _origin(told: Told) -> Check:
    """Whether the architecture's file tells the same origin as the result: it may travel without it."""
    content = read_json(architecture_file(told.folder, told.name))
    result, run = told.result, told.config.run_key
    found = {**result["hashes"], "run": run, "versions": result["versions"], "device": told.name}
    field = f"architectures/{told.name}.json: origin"
    return compared(f"{told.name}: origin", content.get("origin"), found, field=field)


def _same(told: Told, what: str, found: Mapping[str, Any], tolerance: float = 1e-9) -> Check:
    recorded = {key: told.device[key] for key in found}
    return compared(f"{told.name}: {what}", recorded, found, field=told.field, tolerance=tolerance)


def _costs(told: Told) -> Iterator[Check]:
    """A recorded measurement decides alone, as it did."""
    problem, certificate, totals = told.problem, told.network.certificate, told.totals
    profile, device = problem.profile, told.device
    yield _same(told, "recounted", {"recounted": certificate.recounted}, tolerance=COUNTED_TO)
    predicted, upper = dict(certificate.predicted), dict(certificate.upper)
    if told.name in told.rebuilt.hosts:
        predicted["latency_ms"] = device["predicted"]["latency_ms"]
        upper |= {metric: profile.upper(metric, totals[metric]) for metric in upper}
        unknown = (f"{told.field}.predicted.latency_ms", *(f"{told.field}.profile.{key}" for key in OF_A_HOST))
        yield Check(f"{told.name}: latency predicted", "not checked", HOST, unknown)
    figures = {"predicted": predicted, "upper": upper, "placement": certificate.placement}
    yield _same(told, "predicted, upper bound", figures)
    known = {
        "budgets": problem.limits,
        "margin": problem.margin,
        "upper_level": None if profile.bound is None else profile.bound.level,
        "upper_subject": None if profile.bound is None else profile.bound.subject,
        "profile": profile.provenance,
    }
    yield _same(told, "budgets and profile", known)
    measured_ms = None if device["measured"] is None else device["measured"]["latency_ms"]
    held = hold(problem, totals, recounted=certificate.recounted, measured_ms=measured_ms)
    verdict = {
        "met": held.broken is None,
        "refuted_by": held.broken,
        "binding": max(held.utilisation, key=lambda metric: held.utilisation[metric]),
        "utilisation": held.utilisation,
        "held": held.figures,
        "held_by": held.origins,
    }
    yield _same(told, "budgets met, as told", verdict, tolerance=COUNTED_TO)


def _measured(told: Told) -> Iterator[Check]:
    """Where a device was at hand, its latency as lineage.json keeps it, and the rest as far as it must be so."""
    name, measured, field = told.name, told.device["measured"], f"{told.field}.measured"
    if name not in measured_devices(told.config):
        yield _same(told, "not measured", {"measured": None, "measured_reason": NOT_AT_HAND})
        return
    lineage = read_json(told.folder / "lineage.json")
    latency_ms = lineage["measurements"][name]["latency_ms"]
    found = {
        **{key.name: measured[key.name] for key in fields(Measurement)},
        **{"latency_ms": latency_ms, "p50_ms": latency_ms, "runtime": RUNTIME},
        "threads": told.problem.profile.threads or 1,
    }
    unknown = ["p90_ms", "min_ms", "repeats", "machine"]
    if name in told.rebuilt.hosts:
        found["versions"] = {key: told.result["versions"][key] for key in ("python", "onnxruntime", "torch")}
    else:
        unknown.append("versions")
    problems = [
        *differences(measured, found, field=field),
        *differences(told.device["measured_reason"], None, field=f"{told.field}.measured_reason"),
    ]
    if not 0 < measured["min_ms"] <= latency_ms <= measured["p90_ms"]:
        problems.append(f"{field}: min_ms, p50_ms and p90_ms do not rise")
    yield judged(f"{name}: measured", problems)
    why = "of its runs no other file keeps more than the median"
    yield Check(f"{name}: measurement", "not checked", why, tuple(f"{field}.{key}" for key in unknown))


def _accuracy(told: Told) -> Iterator[Check]:
    """Test accuracy of the network as saved, to within one image: another machine may round a tie another way."""
    accuracy, tested, field = told.device["accuracy"], told.network.tested, f"{told.field}.accuracy"
    images = told.result["data"]["images"]["test"]
    there = {key: accuracy[key] for key in ACCURACIES} | {"images": images}
    problems = list(differences(accuracy, there, field=field))
    problems += [line for key in ACCURACIES for line in not_a_share(accuracy[key], images, field=f"{field}.{key}")]
    same = told.device["random_candidates"][0]["notation"] == told.device["notation"]
    if same and abs(accuracy["random"] - accuracy["inherited"]) * images > 1.5:
        problems.append(f"{field}.random is {accuracy['random']}, but {accuracy['inherited']} as inherited: it is that")
    yield judged(f"{told.name}: accuracies", problems)
    what = f"{told.name}: fine-tuned accuracy"
    if isinstance(tested, str):
        yield Check(what, "not checked", tested, (f"{field}.finetuned",))
    elif tested.images != accuracy["images"]:
        yield Check(what, "FAILED", f"{field}.images is {accuracy['images']}, found {tested.images}")
    elif abs(accuracy["finetuned"] - tested.accuracy) * tested.images > 1.5:
        yield Check(what, "FAILED", f"{field}.finetuned is {accuracy['finetuned']}, found {tested.accuracy}")
    else:
        yield Check(what, "ok")


def not_a_share(accuracy: float, images: int, *, field: str) -> Iterator[str]:
    """Words if that is no share of so many images that were told right."""
    right = accuracy * images
    if not (0 <= right <= images and abs(right - round(right)) < 1e-6):
        yield f"{field} is {accuracy}, no share of {images} images"
