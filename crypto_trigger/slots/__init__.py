"""Times, slots, triggers, subjects, and what was read of a stream. Pure."""
