"""Log-mel spectrograms of speech as MLPerf Tiny makes them, and as levels of one byte.

Source: arXiv:2106.07597; github.com/mlcommons/tiny, benchmark/training/keyword_spotting.
"""

from functools import cache

import numpy as np

# Shapes: S samples of a clip, W samples of a window, F frames, B bands, K bins of a spectrum.

RATE = 16_000  # samples per second
WINDOW, HOP, BINS = 480, 320, 512  # samples: 30 ms every 20 ms, without padding, spectra of 512
BANDS, LOWEST, HIGHEST = 40, 20.0, 4000.0  # mel bands between these, in Hz
FLOOR = 1e-6  # added to the magnitude of a band before its logarithm
# A level of one byte is round((log-mel - OFFSET) / STEP): from the floor on, up to louder than any clip of full scale.
STEP, OFFSET = 19.2 / 255, -13.82


def frames(samples: int) -> int:
    return 1 + (samples - WINDOW) // HOP


def log_mel(pcm_S: np.ndarray) -> np.ndarray:
    """Natural logarithm of the mel magnitudes (F, B) of a clip, which is scaled by its largest sample."""
    samples_S = pcm_S.astype(np.float64)
    samples_S /= samples_S.max() if samples_S.max() > 0 else 1.0
    windows_FW = np.lib.stride_tricks.sliding_window_view(samples_S, WINDOW)[::HOP]
    spectra_FK = np.abs(np.fft.rfft(windows_FW * _hann(), BINS))
    return np.log(spectra_FK @ mel_weights() + FLOOR)


def levels(log_mel_FB: np.ndarray) -> np.ndarray:
    """The log-mel as uint8, half a `STEP` off at most."""
    return np.rint((log_mel_FB - OFFSET) / STEP).clip(0, 255).astype(np.uint8)


@cache
def mel_weights() -> np.ndarray:
    """Weights (K, B) of a spectrum's bins: triangles of height 1, linear on the HTK mel scale; none of the constant."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    bins_K = mel(np.linspace(0, RATE / 2, BINS // 2 + 1))[:, None]
    corners = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    lower_B, centre_B, upper_B = corners[:-2], corners[1:-1], corners[2:]
    rising_KB, falling_KB = (bins_K - lower_B) / (centre_B - lower_B), (upper_B - bins_K) / (upper_B - centre_B)
    weights_KB = np.minimum(rising_KB, falling_KB).clip(min=0)
    weights_KB[0] = 0
    return weights_KB


@cache
def _hann() -> np.ndarray:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))
