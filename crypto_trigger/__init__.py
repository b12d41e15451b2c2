"""Publish one trigger to NATS per time slot, and exit with a status that means something."""

__version__ = "0.1.0"
