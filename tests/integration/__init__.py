"""Several parts together on a real PostgreSQL, with faults."""
