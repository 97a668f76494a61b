"""The corpus folder on disk: where things lie, its Parquet columns, its manifest, its README."""
