"""One file for each command of the `lazydiffusion` program; heavy imports happen inside them, so that help is quick."""
