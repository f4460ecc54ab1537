"""mien.models."""
