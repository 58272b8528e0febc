"""A vector drawing rendered to a training sprite: RGBA, cropped to what it shows, centred, as WebP."""

from __future__ import annotations

import io

from PIL import Image

SIDE = 256  # px of the sprite
MARGIN = 4  # px left free on each side of the longer side
FIRST_WIDTH, LARGEST_WIDTH = 320, 2560  # px of the rendered page
VISIBLE = 12  # alpha above which a pixel counts as drawn
LEAST_COVERAGE = 0.06  # of the sprite's area; thinner drawings leave the model nothing to learn


def render_sprite(svg: str) -> bytes | None:
    """The sprite as a WebP file, or None if the drawing is broken or shows next to nothing."""
    page = rasterize(svg, FIRST_WIDTH)
    box = drawn_box(page) if page else None
    if page is None or box is None or max(sides := _sides(box)) < 24 or min(sides) < 8:
        return None
    enlarged = (SIDE - 2 * MARGIN) / max(sides)
    if enlarged > 1:  # a small drawing on a large page: render it again rather than blow up its pixels
        page = rasterize(svg, min(round(FIRST_WIDTH * enlarged), LARGEST_WIDTH))
        box = drawn_box(page) if page else None
        if page is None or box is None:
            return None
    sprite = centred(page.crop(box))
    return encode(sprite) if coverage(sprite) >= LEAST_COVERAGE else None


def rasterize(svg: str, width: int) -> Image.Image | None:
    """The whole page as RGBA, `width` px wide, without text: which fonts there are differs between machines.

    None if the SVG is broken.
    """
    import resvg_py  # the extra `train`; clipart.py says so where it is missing

    try:
        # Without a dpi, resvg_py takes a page measured in pt, mm or inches for an empty one.
        png = resvg_py.svg_to_bytes(svg_string=svg, width=width, dpi=96, skip_system_fonts=True)
        return Image.open(io.BytesIO(png)).convert("RGBA")
    except (ValueError, OSError, Image.DecompressionBombError):
        return None


def drawn_box(page: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest box (left, top, right, bottom) that holds everything drawn, or None for an empty page."""
    return page.getchannel("A").point([0] * (VISIBLE + 1) + [255] * (255 - VISIBLE)).getbbox()


def _sides(box: tuple[int, int, int, int]) -> tuple[int, int]:
    left, top, right, bottom = box
    return right - left, bottom - top


def centred(drawing: Image.Image) -> Image.Image:
    """The drawing on a transparent SIDE x SIDE sprite, its longer side SIDE - 2 * MARGIN px."""
    scale = (SIDE - 2 * MARGIN) / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    # Scaled with premultiplied alpha, so that the colour of transparent pixels does not bleed in.
    drawing = drawing.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    sprite = Image.new("RGBA", (SIDE, SIDE))
    sprite.paste(drawing, ((SIDE - width) // 2, (SIDE - height) // 2))
    return sprite


def coverage(sprite: Image.Image) -> float:
    """The share of the sprite's area that is more opaque than not."""
    small = sprite.getchannel("A").resize((64, 64))
    return sum(small.histogram()[128:]) / (64 * 64)


def encode(sprite: Image.Image) -> bytes:
    """The sprite as a WebP file."""
    file = io.BytesIO()
    sprite.save(file, "WEBP", quality=86, alpha_quality=92, method=4)
    return file.getvalue()
