"""Where images come from: datasets, stores, folders, CIFAR-10."""
