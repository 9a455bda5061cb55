"""Where images come from: datasets, plain stores, folders and archives of image files, arrays, Parquet and CIFAR."""
