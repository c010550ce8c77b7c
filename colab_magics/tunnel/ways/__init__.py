"""The ways to a machine, one module each: `open`, `close` and `state` as `plan.Way` has them."""
