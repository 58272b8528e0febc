"""Measurements of a trained model on scenes of held-out sprites."""
