"""mien.train."""
