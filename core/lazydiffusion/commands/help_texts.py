r"""Help that is more than a sentence. Of its signs `\b` keeps the lines of what follows, `\[` is a plain bracket."""

PLAY = """Generate a picture progressively, one edit after the other.

\b
    canvas = "start.png"        # or: size = [512, 512]
    seed = 7                    # of the first edit

\b
    [\\[edit]]
    prompt = "a red house"
    box = [40, 60, 200, 200]    # x, y, width, height in px

Instead of a box an edit may have an ellipse, or mask = "house.png".
Paths begin at the script's folder. As for `fill`: negative, seed, steps,
guidance, strength, feather, grow, blend, sketch.
"""
