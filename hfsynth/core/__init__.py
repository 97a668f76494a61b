"""The values, recipes, errors and safe files that every package shares."""
