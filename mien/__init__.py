"""mien: facial-expression recognition."""
