"""Benchmarks: what the engine does in a second, measured where it runs and said with its conditions.

A benchmark is a function from a `Scale` to `Measurement`s. Each prints a hash of its results: the same inputs
must give the same books, however fast.
"""
