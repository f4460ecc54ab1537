"""mien.models.papers."""
