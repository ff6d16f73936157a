"""The most memory that a search takes: of one job, though several share a process."""

import sys

import numpy as np
import pytest

from trainers.search.memory import count_peak_anew, peak_mb


@pytest.mark.skipif(sys.platform != "linux", reason="no other system counts anew")
def test_a_peak_counts_from_when_it_is_told_to() -> None:
    held = np.ones(100_000_000, np.uint8)
    del held
    before = peak_mb()
    assert count_peak_anew()
    assert peak_mb() < before - 90
    held = np.ones(200_000_000, np.uint8)
    assert peak_mb() > before + 90
    assert len(held)
