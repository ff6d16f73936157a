"""The most memory that a search takes: of one job, though several share a process."""

import sys

import numpy as np
import pytest

from trainers.search.memory import count_peak_anew, peak_mb


@pytest.mark.skipif(sys.platform != "linux", reason="no other system counts anew")
def test_a_peak_counts_from_when_it_is_asked_to() -> None:
    held = np.ones(100_000_000, np.uint8)
    del held
    before = peak_mb()
    assert count_peak_anew()
    anew = peak_mb()
    assert anew < before - 50  # half of what is expected: a busy machine takes back memory in between
    held = np.ones(200_000_000, np.uint8)
    assert peak_mb() > anew + 100
    assert len(held)
