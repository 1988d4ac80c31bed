"""Models: training, evaluation, registry, and the compiled kernels that serve them."""
