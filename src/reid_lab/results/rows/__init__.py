"""The row types of all tables of runs and multiruns, each defined once, and the tables."""
