"""Faults as named objects: each is set up in advance and tells by an event when it has struck."""
