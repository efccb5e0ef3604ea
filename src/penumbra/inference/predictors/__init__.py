"""Predictors: how a probability map, and samples where a method has them, come out of a candidate's members.

``build(*, ...)`` gives ``predict(models, images) -> Prediction``: models are in evaluation mode and called without
gradients, and torch's generator is seeded for the case, so a predictor may draw from it.
"""
