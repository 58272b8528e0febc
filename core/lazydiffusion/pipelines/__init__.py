"""From a canvas, a mask and a prompt to fills: the lazy pipeline and the pure functions that it is made of."""
