"""Image files, decoded pixels and boxes."""
