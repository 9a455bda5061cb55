"""A stand-in for what the training loop of the documents uses of PyTorch, where that isn't installed."""
