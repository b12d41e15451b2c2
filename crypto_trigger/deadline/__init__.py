"""deadline."""
