"""From a trained network to the file that a device runs."""
