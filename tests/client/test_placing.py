"""Where a fill lies on a canvas that has changed since."""

from __future__ import annotations

import pytest

from lazydiffusion.client.placing import LiesOutside, placement
from lazydiffusion.window import Box

pytestmark = pytest.mark.unit

BOX = Box(50, 40, 30, 20)


def test_on_the_canvas_that_it_was_made_for_nothing_need_be_said() -> None:
    assert placement(BOX, (100, 100), (100, 100)) == ""


def test_another_size_is_told() -> None:
    told = placement(BOX, (100, 100), (60, 200))
    assert "was 100 x 100 px when the fill was made and is 60 x 200 px now" in told


@pytest.mark.parametrize("size", [(50, 100), (100, 40)])
def test_where_nothing_would_show_it_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(LiesOutside, match="Open a picture of that size"):
        placement(BOX, (100, 100), size)
