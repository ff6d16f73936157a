"""Weight paths drawn from the logits."""

# Shapes: n decisions.

from trainers.search.samplers.sampler import PathSampler, largest_path


class FromLogits(PathSampler):
    """Networks as the logits and the constraint weigh them; in the warm-up the largest network takes a turn too.

    So the warm-up reaches all weights: in turn the largest network, and one drawn for each device.
    """

    def path(self, step: int, device: int) -> tuple[int, ...]:
        if step < self.warmup_steps and step % (len(self.constraint.search.problems) + 1) == 0:
            return largest_path(self.constraint.table.rules)
        return self.constraint.draw(device)
