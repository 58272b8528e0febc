"""The resident core: an HTTP service around one worker that holds the models. `docs/service.md` tells its interface."""
