"""From measurements to a profile: fits, what other devices teach, held-out errors, bounds, what to measure next."""
