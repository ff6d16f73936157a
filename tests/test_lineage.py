"""The lineage of a run leads from its supernet through its networks to their weights, each named by its content."""

import hashlib
import json
from pathlib import Path

from search_spaces.architecture import read_architecture
from tests.reported_runs import searched


def test_each_model_is_its_weights_and_comes_of_its_architecture_and_that_of_the_supernet(tmp_path: Path) -> None:
    run = searched(tmp_path, "seed=0")
    lineage = json.loads((run / "lineage.json").read_text(encoding="utf-8"))
    assert list(lineage["models"]) == list(lineage["architectures"]) == ["mid_tablet", "iot_terminal"]
    for device, model in lineage["models"].items():
        architecture = lineage["architectures"][device]
        assert model["id"] == hashlib.sha256((run / model["file"]).read_bytes()).hexdigest()
        assert model["parent"] == architecture["id"] == read_architecture(run / architecture["file"]).id
        assert architecture["parent"] == lineage["supernet"]["id"]
        assert set(architecture) == set(model) == {"id", "parent", "file"}  # each hash stands once
    # Two devices of one network have one model, or two where they were trained at different sizes.
    architectures = {architecture["id"] for architecture in lineage["architectures"].values()}
    assert len({model["id"] for model in lineage["models"].values()}) == len(architectures)
