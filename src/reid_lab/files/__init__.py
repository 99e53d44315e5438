"""Files: written whole, read safely. It knows nothing of people, networks or runs."""
