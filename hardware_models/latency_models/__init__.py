"""What one operation, and with it a network, takes on a device: one file for each way to price."""
