"""Any network that PyTorch exported, as a program of torch.export (.pt2) or as TorchScript."""
