"""Overrides that Espalier writes itself."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from trainers.cli.overrides import quoted

HOSTILE = ["it's", "''", "\\", "\\'", "a\\\\'b\\", 'say "no"', "${seed}", "\\${seed}", "\\\\'${a", "[1,{b:2}]"]


@pytest.mark.parametrize("text", ["", "plain", "null", "3", *HOSTILE])
def test_a_text_in_quotes_means_these_very_characters(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={{texts:[{quoted(text)}],more:1}}")
    assert OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True) == {
        "key": {"texts": [text], "more": 1}
    }
