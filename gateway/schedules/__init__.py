"""Schedules: Moves that are made, or taken further, at given times: once for each tick, whatever dies."""
