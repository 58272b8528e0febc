"""Pictures of any size shown small: what is drawn is little, and looks like the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from krita_plugin.lazydiffusion.pictures import SMALL, Mipmap, shrunk
from PyQt6 import QtCore, QtGui

from lazydiffusion.client.edit import FillPixels
from lazydiffusion.window import Box

pytestmark = pytest.mark.integration

SIDES = st.integers(1, 1500)


def levels(picture: QtGui.QImage) -> np.ndarray:
    """h x w x 4, straight alpha, 0..255."""
    plain = picture.convertToFormat(QtGui.QImage.Format.Format_RGBA8888)
    bits = plain.constBits()
    bits.setsize(plain.sizeInBytes())
    return np.frombuffer(bytes(bits), np.uint8).reshape(plain.height(), plain.width(), 4).astype(np.float32)


def noise(w: int, h: int, seed: int = 0) -> QtGui.QImage:
    """Random colours, opaque."""
    pixels = np.random.default_rng(seed).integers(0, 256, (h, w, 4), np.uint8)
    pixels[..., 3] = 255
    return QtGui.QImage(pixels.tobytes(), w, h, 4 * w, QtGui.QImage.Format.Format_RGBA8888).copy()


@settings(max_examples=40, deadline=None)
@given(w=SIDES, h=SIDES, width=st.integers(1, 3000))
def test_what_is_drawn_is_neither_much_nor_too_little(w: int, h: int, width: int) -> None:
    picture = QtGui.QImage(w, h, QtGui.QImage.Format.Format_ARGB32_Premultiplied)
    picture.fill(QtGui.QColor(10, 200, 30, 128))
    drawn = Mipmap(picture).shown(width)
    assert min(w, width) <= drawn.width() <= max(2 * width, 1)
    if drawn.width() < w:
        # What is kept of the height is what is kept of the width, up to the rounding at each halving.
        assert drawn.height() == pytest.approx(h * drawn.width() / w, rel=0.01, abs=1.5)
    seen = levels(drawn)
    assert np.abs(seen - [10, 200, 30, 128]).max() <= 2, "no seam, no dark edge"


def test_a_small_picture_has_no_halves_and_a_huge_one_ends_small() -> None:
    assert Mipmap(noise(512, 512)).nbytes == 4 * SMALL
    huge = Mipmap(noise(3000, 2001))
    assert huge.nbytes == 4 * (3000 * 2001 + 1500 * 1001 + 750 * 501 + 375 * 251)
    assert huge.shown(3000) is huge.full
    assert [huge.shown(width).width() for width in (1501, 1500, 751, 400, 375, 200, 100)] == [
        3000, 1500, 1500, 750, 375, 375, 100
    ]  # fmt: skip


def test_a_half_is_the_mean_of_four_and_strips_leave_no_trace() -> None:
    picture = noise(1024, 600)
    half = levels(Mipmap(picture).shown(512))
    means = levels(picture).reshape(300, 2, 512, 2, 4).mean((1, 3))
    assert half.shape == means.shape
    assert np.abs(half - means).max() <= 1


def test_transparent_px_give_no_colour_to_their_neighbours() -> None:
    pixels = np.zeros((600, 1000, 4), np.uint8)
    pixels[:, :501] = (250, 120, 0, 255)
    pixels[:, 501:] = (0, 0, 255, 0)
    fill = FillPixels(0, Box(0, 0, 1000, 600), 0, pixels.tobytes())
    drawn = levels(Mipmap.of_fill(fill).shown(500))
    assert drawn.shape == (300, 500, 4)
    visible = drawn[..., 3] > 0
    assert np.abs(drawn[visible][:, :3] - [250, 120, 0]).max() <= 2
    assert drawn[:, 250, 3] == pytest.approx(128, abs=1), "the px on the border is half of each"
    assert (drawn[:, 251:, 3] == 0).all()


def test_a_shrunk_picture_keeps_its_mean() -> None:
    stripes = QtGui.QImage(3000, 60, QtGui.QImage.Format.Format_RGB32)
    stripes.fill(QtCore.Qt.GlobalColor.black)
    painter = QtGui.QPainter(stripes)
    for x in range(0, 3000, 200):
        painter.fillRect(x, 0, 100, 60, QtCore.Qt.GlobalColor.white)
    painter.end()
    small = shrunk(stripes, 15)
    assert small.width() == 15
    assert all(abs(small.pixelColor(x, 0).red() - 128) < 20 for x in range(15))
    assert shrunk(stripes, 2000) is stripes
