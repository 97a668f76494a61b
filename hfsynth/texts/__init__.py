"""Pairs into training texts: rendered in many wordings, mixed by tokens."""
