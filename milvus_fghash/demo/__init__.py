"""Two demos on generated bird drawings: with the built-in bundle, and with training."""
