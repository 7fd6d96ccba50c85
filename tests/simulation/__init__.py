"""Small editions of the simulations and benchmarks, so that they cannot rot."""
