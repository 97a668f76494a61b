"""Pairs by rules, without a model: what a document's own form says about it."""
