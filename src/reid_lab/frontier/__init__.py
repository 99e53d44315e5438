"""What finished runs are worth: accuracy against cost, the Pareto set, the best under a budget."""
