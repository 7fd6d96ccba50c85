"""The books as files: the log and its tables in Parquet, with what proves that nothing was changed, and back
into an empty database."""
