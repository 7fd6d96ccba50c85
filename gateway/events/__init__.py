"""What is committed, told as events: filtered, in the order of the log, from any position of it on."""
