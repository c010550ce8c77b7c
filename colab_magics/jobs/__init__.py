"""The pure half of the queue: what a job is, the state table, and what to do next. No I/O, no clock."""
