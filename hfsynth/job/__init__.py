"""A whole source into a corpus folder: shards, journal, leases, workers, launchers."""
