"""Which engine settings are the fastest for a job, and what it will take."""
