"""Predictors: how a probability map, and samples where a method has them, come out of a candidate's members.

``build(*, ...)`` gives ``predict(models, images, *, sampled) -> Prediction``: models are in evaluation mode and called
without gradients, and torch's generator is seeded for the case, so a predictor may draw from it. Where ``sampled`` is
False nobody asks for samples, and a predictor need not draw any; the probability map is the same then.
"""
