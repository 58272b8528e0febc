"""LazyDiffusion for GIMP 3: generative fill of the selection, by a core that is another process.

Built by build_plugins.py, these files and the ones that the core's package shares with its plugins are one package,
`lazydiffusion`, beside the program `lazydiffusion.py` that GIMP starts.
"""
