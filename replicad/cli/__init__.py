"""Commands: they talk to the running daemon over its control socket, or work on the home while none runs."""
