"""The GPU machine's side: read the queue, run what is due, bring the results home."""
