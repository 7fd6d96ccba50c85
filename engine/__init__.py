"""What is true: state, the posting kernel, Move machines and codecs.

Everything here is pure and synchronous. The clock, randomness and ids are arguments; there is no I/O, so the
same inputs give the same state on every machine and at every replay.
"""
