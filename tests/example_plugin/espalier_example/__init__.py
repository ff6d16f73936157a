"""Parts for Espalier, found by the entry points of this package."""
