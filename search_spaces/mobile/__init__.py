"""A chain of MBConv blocks in the manner of MobileNetV3."""
