"""What a size costs: a model whose figures are measured on this machine, and points measured beside it."""
