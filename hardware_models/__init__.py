"""What a network costs on a device: profiles, the prices of operations, and how they are fitted to measurements."""
