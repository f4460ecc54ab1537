"""mien.evaluate."""
