"""What survives: the write-ahead log, snapshots, recovery, projections and the embedded server.

PostgreSQL is spoken here and nowhere above: callers see records and LSNs, and errors of this package's own.
"""
