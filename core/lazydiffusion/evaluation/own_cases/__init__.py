"""`lazydiffusion compare`: models on an artist's own cases, their fills side by side, and a verdict."""
