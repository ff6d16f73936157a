"""A network that several devices get is trained to its end and exported once."""

from pathlib import Path
from typing import Any

import pytest
from tiny_search import MOBILE, SHORT, tiny_config

import trainers.search.derive
from trainers.cli.search import run_search
from trainers.runs.folder import RunFolder

ONE_NETWORK = (
    *MOBILE,
    *SHORT,
    "space.widths=[[8],[16],[16],[24],[24]]",
    "space.depths=[1]",
    "space.kernels=[3]",
    "space.expansions=[2]",
    "space.resolutions=[48]",
)


@pytest.mark.parametrize(("precision", "ends"), [("fp32", 1), ("int8", 2)])
def test_devices_of_one_network_and_precision_share_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, ends: int
) -> None:
    finish, finished = trainers.search.derive.finish, []

    def counted(*args: Any, **options: Any) -> Any:
        finished.append(finish(*args, **options))
        return finished[-1]

    monkeypatch.setattr(trainers.search.derive, "finish", counted)
    given = ("trainer.finetune_steps=2", "trainer.deploy=true", f"hardware.mid_tablet.precision={precision}")
    config = tiny_config(tmp_path, *ONE_NETWORK, *given)
    run_search(config, lambda line: None)
    devices = RunFolder(config.run_folder, command="").read_result().devices.values()
    assert len(finished) == ends
    files = {(config.run_folder / device.file.path).read_bytes() for device in devices if device.file is not None}
    assert len(files) == ends
    assert len({device.accuracy.finetuned for device in devices}) == 1
