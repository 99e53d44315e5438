"""Files: written atomically, read safely; independent of people, networks and runs."""
