"""One training run: its configuration, its steps, and the part of one worker."""
