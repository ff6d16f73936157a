"""From logits to the selection that a supernet runs, and the update of the logits: one file each."""
