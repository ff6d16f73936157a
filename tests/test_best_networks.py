"""The best networks of each device are kept: their architectures always, their weights where asked."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_search import MOBILE, tiny_config

from search_spaces.architecture import build_network, read_architecture
from trainers.data.datasets import data_config, load_data
from trainers.deploy.standalone import score
from trainers.reports.verify import verify_run
from trainers.runs.config import SearchConfig
from trainers.runs.result import Result
from trainers.search.run import run

KEPT = (*MOBILE, "strategy.pool_size=32", "trainer.keep_best=3", "trainer.keep_weights=best_k")
ONE = ("hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2")
Searched = tuple[SearchConfig, Result]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    config = tiny_config(tmp_path_factory.mktemp("runs"), *KEPT)
    return config, run(config, lambda line: None)


def test_the_first_is_the_certified_network_and_the_others_follow_by_validation(searched: Searched) -> None:
    for device in searched[1].devices.values():
        assert len(device.best) == 3
        assert device.best[0].id == device.id
        assert device.best[0].predicted == pytest.approx(device.predicted)
        assert len({row.id for row in device.best}) == 3
        ranks = [(-row.validation_accuracy, row.validation_loss) for row in device.best[1:]]
        assert ranks == sorted(ranks)
        assert device.validation.accuracy == device.best[0].validation_accuracy


def test_kept_weights_give_the_validation_accuracy_that_ranked_the_network(searched: Searched) -> None:
    config, result = searched
    data = load_data(data_config(config.data))
    for row in result.devices["mid_tablet"].best:
        network = build_network(read_architecture(config.run_folder / row.architecture))
        assert row.weights is not None
        network.load_state_dict(load_file(config.run_folder / row.weights))
        images = config.trainer.validation_images
        found = score(network, data, "validation", images=images, batch_size=config.trainer.batch_size)
        assert found.accuracy == pytest.approx(row.validation_accuracy, abs=1.5 / found.images)  # a tie may round


def test_verify_passes_and_finds_a_swapped_architecture(searched: Searched) -> None:
    folder = searched[0].run_folder
    assert [check for check in verify_run(folder) if check.outcome == "FAILED"] == []
    second, third = (folder / row.architecture for row in searched[1].devices["mid_tablet"].best[1:])
    content = second.read_bytes()
    try:
        second.write_bytes(third.read_bytes())
        failed = {field for check in verify_run(folder) if check.outcome == "FAILED" for field in check.fields}
    finally:
        second.write_bytes(content)
    assert {"devices.mid_tablet.best.1.id", "files.architectures/mid_tablet/2.json"} <= failed


def test_weights_are_kept_only_where_asked_and_the_default_is_no_other_run(tmp_path: Path) -> None:
    default, kept = tiny_config(tmp_path, *MOBILE), tiny_config(tmp_path, *KEPT)
    assert "keep_best" not in default.fingerprint_fields["trainer"]
    assert default.run_key != kept.run_key
    config = tiny_config(tmp_path, *KEPT, "trainer.keep_weights=none", "trainer.keep_best=1", *ONE)
    result = run(config, lambda line: None)
    assert [row.weights for device in result.devices.values() for row in device.best] == [None]
    assert not (config.run_folder / "weights" / "mid_tablet").exists()
