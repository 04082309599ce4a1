"""One training run: its configuration, its steps, and one worker's side of it."""
