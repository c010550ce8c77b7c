"""Where jobs and results live."""
