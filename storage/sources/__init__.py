"""Where images come from: datasets, plain stores, folders of image files, CIFAR-10 and CIFAR-100."""
