"""Predicting test cases and finding the binarisation threshold; ``infer.infer`` does it."""
