"""Optimisers: Muon for networks, and the batched ones that move one row of numbers per image."""
