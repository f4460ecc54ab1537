"""mien.detect."""
