"""The latency models that a profile, or a unit of it, may have: each its own file, told apart by `model`."""

from typing import Annotated

from pydantic import Field

from hardware_models.latency_models.additive import Additive
from hardware_models.latency_models.roofline import Roofline
from hardware_models.latency_models.table import Table

LatencyModel = Annotated[Roofline | Additive | Table, Field(discriminator="model")]
