"""Spaces written as one module of torch, in which searched numbers, alternatives and depths are marked."""
