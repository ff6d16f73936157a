"""A device over SSH: its network is measured there, as one of this machine is here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import INSTALLED, REASON, LoopbackServer, free_port, loopback_server
from tiny_search import MOBILE_SPACE, SHORT, composed, tiny_config

from hardware_models.measuring import runner
from hardware_models.measuring.board import BoardError
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS
from trainers.cli.search import run_search
from trainers.runs.config import validate
from trainers.search.identification import identified

DEVICE = (*MOBILE_SPACE, "hardware=[mid_tablet]", "hardware.mid_tablet.runtime=onnxruntime")
DEVICE += ("hardware.mid_tablet.precision=fp32", "hardware.mid_tablet.threads=1", "strategy.pool_size=32")
PLACED = ("hardware=[split_phone_server]", "hardware.split_phone_server.runtime=onnxruntime")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    if not INSTALLED:
        pytest.skip(REASON)
    with loopback_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def board(server: LoopbackServer, **changed: object) -> str:
    address = server.address
    keys = {key: getattr(address, key) for key in ("host", "port", "identity", "ssh_config", "python")} | changed
    fields = (f"{key}:{value}" if key == "port" else f"{key}:'{value}'" for key, value in keys.items())
    return f"boards={{mid_tablet:{{{','.join(fields)}}}}}"


def searched(runs: Path, *overrides: str) -> dict[str, Any]:
    run_search(tiny_config(runs, *DEVICE, *overrides), lambda line: None)
    [path] = runs.rglob("result.json")
    return dict(json.loads(path.read_text(encoding="utf-8"))["devices"]["mid_tablet"])


def test_network_of_a_board_is_measured_there_and_meets_its_budget(server: LoopbackServer, tmp_path: Path) -> None:
    device = searched(tmp_path / "runs", board(server), "hardware.mid_tablet.budgets.latency_ms=1000")
    assert device["met"]
    assert 0 < device["measured"]["latency_ms"] <= 1000
    assert device["measured"]["runtime"] == "onnxruntime"
    assert "cores" in device["measured"]["machine"]


@pytest.mark.slow
def test_network_that_is_too_slow_on_the_board_is_refuted(server: LoopbackServer, tmp_path: Path) -> None:
    config = composed(*SHORT, *DEVICE, board(server), "trainer.max_cuts=2", f"paths.runs={tmp_path / 'runs'}")
    # A price far below what any machine needs, so that only the measurement can refute it.
    free = {"model": "additive", "constant_ms": 1e-6, "in_constant": [{"kind": kind} for kind in KINDS], "terms": []}
    config["hardware"]["mid_tablet"] |= {
        "latency": free,
        "bound": None,
        "domain": None,
        "budgets": {"latency_ms": 2e-6},
    }
    result = run_search(validate(config), lambda line: None).model_dump()
    device = result["devices"]["mid_tablet"]
    assert result["status"] == "unmet"
    assert device["refuted_by"] == "latency_ms"
    assert device["measured"]["latency_ms"] > 2e-6 >= device["predicted"]["latency_ms"]


def test_board_that_cannot_be_reached_ends_the_search_before_it_begins(server: LoopbackServer, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="onnection refused"):
        searched(tmp_path / "runs", board(server, port=free_port()))
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("boards={phone:{host:pi}}",), "boards.phone"),
        (("boards={mid_tablet:{}}",), "boards.mid_tablet.host"),
        (("boards={mid_tablet:{host:pi,port:0}}",), "boards.mid_tablet.port"),
        (("boards={mid_tablet:{host:pi,key:x}}",), "boards.mid_tablet.key"),
        (("boards={mid_tablet:{host:pi,identity:none}}",), "boards.mid_tablet.identity"),
        (("boards={mid_tablet:{host:pi}}", "hardware.mid_tablet.runtime=TFLite"), "boards.mid_tablet"),
        (("boards={host:{host:pi}}", "hardware=[host]"), "boards.host"),
        (("boards={split_phone_server:{host:pi}}", *PLACED), "boards.split_phone_server"),
    ],
)
def test_a_wrong_board_is_refused(overrides: tuple[str, ...], key: str) -> None:
    device = MOBILE_SPACE if any(each.startswith("hardware=") for each in overrides) else DEVICE
    with pytest.raises(InvalidInputError) as refused:
        validate(composed(*device, *overrides))
    assert refused.value.fields == (key,)


def test_the_board_that_measures_is_part_of_what_is_asked_and_not_the_way_to_it(server: LoopbackServer) -> None:
    config = identified(validate(composed(*SHORT, *DEVICE, board(server))))
    assert config.measured_on == {"mid_tablet": runner.machine_identity()}  # the server runs on this machine
    elsewhere = config.model_copy(update={"measured_on": {"mid_tablet": "another board"}})
    reached_otherwise = config.boards["mid_tablet"].model_copy(update={"host": "b", "port": 23})
    same = config.model_copy(update={"boards": {"mid_tablet": reached_otherwise}})
    assert same.run_key == config.run_key != elsewhere.run_key
