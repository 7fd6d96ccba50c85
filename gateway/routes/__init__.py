"""The routes, one module for each kind of thing they serve. Each exports `handlers`."""
