"""Type a grid, get an honest ranked table: LeNet5 hyperparameter sweeps on MNIST."""
