"""One trigger into NATS, and what a stream holds.

`choice` gives the publisher, the rehearsal and the source of triggers for a delivery: `jetstream`, `core` or
`streaming`. `deliver` makes the attempts. `setup` creates a stream, `reading` and `follower` read one.
"""
