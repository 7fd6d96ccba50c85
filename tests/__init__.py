"""Tests, in layers by cost; tests/README.md gives each layer its time budget."""
