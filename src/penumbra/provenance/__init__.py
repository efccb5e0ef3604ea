"""The recorder: what every job notes of itself, so that each number can be followed to its bytes."""
