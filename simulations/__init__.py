"""How we know: markets, replays of real data, load, fault injection and benchmarks.

Simulations may use every other package, and no other package imports them.
"""
