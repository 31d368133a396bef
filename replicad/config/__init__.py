"""Settings: TOML and the environment become frozen dataclasses, or a list of every mistake in them."""
