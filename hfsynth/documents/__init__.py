"""Where documents come from, how they are read from any row on, how long ones are cut."""
