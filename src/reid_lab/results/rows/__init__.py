"""The rows of all tables that a run or a multirun leaves, each defined once, and their tables."""
