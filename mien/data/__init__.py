"""mien.data."""
