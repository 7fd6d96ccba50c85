"""A simulator that hunts for bugs: the real shard, ledger and commit code on a simulated clock, network and
log store, all from one seed, under the eyes of an auditor that keeps books of its own. See docs/simulator.md.
"""
