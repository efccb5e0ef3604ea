"""Heads: what becomes of a network's last channels before an activation sees them."""
