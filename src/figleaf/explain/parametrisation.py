"""What gradient ascent moves: the pixels themselves, or a picture's spectrum in decorrelated colours.

Steps on pixels end in high frequencies. Steps on the Fourier coefficients, scaled as those of natural images are, and
on colours whose directions are independent in them, give pictures: Olah, Mordvintsev & Schubert, "Feature
Visualization", Distill 2017. The constants are those of its code, lucid.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

# Square root of the covariance of ImageNet's RGB values, as in lucid.
_COLOR_ROOT = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_SPECTRUM_STD = 0.01
_SPECTRUM_UNIT = 4.0
_START_MEAN, _START_SPREAD = 128.0, 20.0  # of the classic recipe's noise


class Pixels:
    """F pictures (F, 3, S, S) in 0-255 as they are; each starts as noise of its own generator."""

    def __init__(self, size: int, generators: Sequence[Generator], device: str) -> None:
        noise = torch.stack([torch.rand(3, size, size, generator=one) for one in generators])
        self.free = (_START_MEAN + _START_SPREAD * noise).to(device).requires_grad_()

    def pictures(self) -> Tensor:
        """RGB (F, 3, S, S) in 0-255."""
        return self.free

    def confine(self) -> None:
        """Put the pixels back into 0-255."""
        with torch.no_grad():
            self.free.clamp_(0, 255)


class Spectrum:
    """F pictures by their Fourier coefficients (F, 3, S, S // 2 + 1, 2) in decorrelated colours."""

    def __init__(self, size: int, generators: Sequence[Generator], device: str) -> None:
        self._size = size
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
        frequency = torch.sqrt(rows**2 + columns**2)
        self._scale = (1 / frequency.clamp_min(1 / size)).to(device)
        root = _COLOR_ROOT / _COLOR_ROOT.norm(dim=0).max()
        self._color = root.to(device)
        shape = (3, size, size // 2 + 1, 2)
        start = torch.stack([_SPECTRUM_STD * torch.randn(shape, generator=one) for one in generators])
        self.free = start.to(device).requires_grad_()

    def pictures(self) -> Tensor:
        """RGB (F, 3, S, S) in 0-255."""
        spectrum = torch.view_as_complex(self.free.contiguous()) * self._scale
        plane = torch.fft.irfft2(spectrum, s=(self._size, self._size), norm="ortho") / _SPECTRUM_UNIT
        return 255 * torch.sigmoid(torch.einsum("fchw,rc->frhw", plane, self._color))

    def confine(self) -> None:
        """Nothing: the sigmoid keeps colours in range."""
