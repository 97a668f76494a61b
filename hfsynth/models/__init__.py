"""Which model is meant: names pinned to revisions, adapters merged into their base, tokenizers."""
