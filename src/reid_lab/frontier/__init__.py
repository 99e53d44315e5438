"""Compare finished runs: accuracy against cost, the Pareto set, the best under a budget."""
