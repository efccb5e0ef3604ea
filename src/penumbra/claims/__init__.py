"""What a paper claims, as data: tests that a study can make of its own numbers, and what came of them."""
