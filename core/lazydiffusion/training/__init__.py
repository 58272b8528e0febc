"""Training of the lazy model: data, scenes, masks, objective and trainer."""
