"""Turn any corpus into an instruction-augmented pre-training corpus."""

__version__ = "0.1.0"
