"""A card whose every number is computed, one visible change a push."""
