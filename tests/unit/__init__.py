"""One module at a time: no database, no sockets, no processes."""
