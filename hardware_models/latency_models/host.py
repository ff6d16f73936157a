"""The latency model of the machine that a search runs on: a roofline that is measured there when it is first needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from hardware_models.latency_models.latency_model import LatencyModel
from search_spaces.errors import InvalidInputError

RUNTIME, PRECISION = "onnxruntime", "fp32"


class Host(LatencyModel):
    """`latency: {model: host}`. `resolve` replaces it by what was measured, so it stays abstract."""

    model: Literal["host"]

    @model_validator(mode="before")
    @classmethod
    def _unmeasured(cls, content: Any) -> Any:
        raise ValueError("it is measured when a search starts; give a fitted model to use the profile elsewhere")

    @classmethod
    def resolve(cls, name: str, profile: Mapping[str, Any], cache_dir: Path) -> Mapping[str, Any]:
        """Fields given beside `latency` (title, budgets) win over measured ones.

        Raises: InvalidInputError if it asks for what cannot be measured here, or if `cache_dir` cannot be written.
        """
        from hardware_models.measuring.host_profile import measure_host_profile  # imports onnxruntime

        threads = profile.get("threads")
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise InvalidInputError(f"hardware.{name}.threads: got {threads!r}; allowed: a whole number of at least 1")
        for key, allowed in (("runtime", RUNTIME), ("precision", PRECISION)):
            if profile.get(key, allowed) != allowed:
                raise InvalidInputError(
                    f"hardware.{name}.{key}: got {profile[key]!r}; this machine is measured with {allowed} only; "
                    "for another one give a fitted `latency`"
                )
        if len(profile["latency"]) > 1:
            raise InvalidInputError(
                f"hardware.{name}.latency: got {dict(profile['latency'])}; a host's has no field but `model`"
            )
        given = {key: value for key, value in profile.items() if key != "latency"}
        return {**measure_host_profile(threads=threads, cache_dir=cache_dir), **given}
