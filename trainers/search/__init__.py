"""The search: plan, training and pruning, candidates, certificate."""
