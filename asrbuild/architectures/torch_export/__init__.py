"""PyTorch: any exported network, as a program of torch.export (.pt2) or as TorchScript."""
