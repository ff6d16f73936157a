"""What keeps costs within budget while the logits are trained: one file each."""
