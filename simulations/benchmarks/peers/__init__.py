"""Other systems that do the same, measured in the same run, each at its best on this machine."""
