"""A synthesizer of your own from task data."""
