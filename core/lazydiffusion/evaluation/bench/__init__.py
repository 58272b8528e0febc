"""`lazydiffusion bench`: what an edit costs with each engine, in time, memory and operations, all in one run."""
