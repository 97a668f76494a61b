"""Training texts into the files that trainers read."""
