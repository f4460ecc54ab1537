"""mien.export."""
