"""S3 on the loopback: `moto` as a process for what must be true to the service, our own for faults on demand."""
