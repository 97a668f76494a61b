"""How much of a long walk the tests go, and where: `.ci/run` gives every run another seed, shown at its head."""

from __future__ import annotations

import os

SEED = int(os.environ.get("HFSYNTH_TEST_SEED", "1"))
"""Which moments a kill falls on, and which fault meets which request."""

EVERYTHING = os.environ.get("HFSYNTH_TEST_EVERYTHING", "") not in ("", "0")
"""Whether every kill and fault is tried that there is, instead of a sample: a quarter of an hour more."""
