"""Methods: quality against seconds and bytes."""
