"""Lines of a chart are told apart by whoever looks, on a light page and on a dark one."""

from __future__ import annotations

import numpy as np

from opd_steps.report.axes import DARK, DASHES, LIGHT, look


def test_lines_are_told_apart_by_colour_blind_eyes():
    """Matrices of full protanopia, deuteranopia and tritanopia (Machado 2009); difference in CIE Lab."""
    for palette, page in ((LIGHT, "#ffffff"), (DARK, "#1d1f23")):
        seen = [_linear(colour) for colour in palette]
        for matrix in _EYES:
            labs = [_lab(matrix @ colour) for colour in seen]
            assert min(np.linalg.norm(a - b) for i, a in enumerate(labs) for b in labs[:i]) > 15
        for colour in seen:
            light, dark = sorted((_luminance(colour), _luminance(_linear(page))), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3
    assert len({look(i) for i in range(len(LIGHT) * DASHES)}) == len(LIGHT) * DASHES


_EYES = [
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
]
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luminance(rgb: np.ndarray) -> float:
    return float(_XYZ[1] @ rgb)


def _lab(rgb: np.ndarray) -> np.ndarray:
    x = _XYZ @ rgb.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
