"""The cost of every network of a space, and which networks meet the budgets of a device."""
