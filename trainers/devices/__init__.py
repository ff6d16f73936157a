"""What `espalier-measure` and `espalier-calibrate` do: latencies measured, device profiles fitted."""
