"""Training-free scores of freshly initialised networks, one file each, and what a search makes of them."""
