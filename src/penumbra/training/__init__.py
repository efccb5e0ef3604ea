"""Training one member of one candidate on one split; ``loop.train`` does it."""
