"""The toy problem of stochastic segmentation networks (Monteiro et al. 2020, section 5.1), its table and figure 2."""
