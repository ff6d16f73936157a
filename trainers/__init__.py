"""How a network is found: data, training, strategies, runs. May import search_spaces and hardware_models."""
