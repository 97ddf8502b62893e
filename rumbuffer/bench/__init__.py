"""The load benchmark behind `rumbuffer bench`: what is offered, how it is measured, how it is told.

- `load`: the plan of arrivals, sessions and sizes; seeded, and blind to what becomes of it.
- `generator`, `probes`, `run`: offer the plan to a buffer, and measure without standing in the way.
- `histogram`, `result`: what was measured, as values and as a JSON document.
- `verdict`, `terminal`, `charts`, `page`, `compare`: what it means, for people.

It is the engine: the command's options are in `rumbuffer.cli.bench`.
"""
