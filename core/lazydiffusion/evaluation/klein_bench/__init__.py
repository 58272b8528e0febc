"""Bench of the engine flux2-klein: its views and diffusers' own pipeline, with random weights of the true size."""
