"""A Hub on the loopback: real HTTP, real uploads, faults on demand, Xet as the real one speaks it."""
