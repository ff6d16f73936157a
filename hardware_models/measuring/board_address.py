"""Where a board is and how to enter it, as the configuration says; light to import."""

import os
from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Line = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]


class BoardAddress(BaseModel):
    """Another machine, over SSH; none where `host` is None. The meaning of each key stands in conf/measure.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # A leading dash would be read as an option.
    host: Annotated[str, Field(pattern=r"^[^-\s][^\s]*$")] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    identity: Line | None = None
    ssh_config: Line | None = None
    python: Line = "python3"
    timeout_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 600

    def problems(self, key: str) -> Iterator[str]:
        """What is wrong with it as the section `key`, beyond single values."""
        for name, path in (("identity", self.identity), ("ssh_config", self.ssh_config)):
            if path is not None and not os.path.isfile(os.path.expanduser(path)):
                yield f"{key}.{name}: no such file: {path}"
        if self.host is None and (self.identity or self.ssh_config or self.port is not None):
            yield f"{key}.host: got none beside its other keys; name the machine, as {key}.host=pi@192.168.1.20"
