"""PyTorch: any exported network, as a program of torch.export (.pt2) or as TorchScript."""

#: Runs the original in a process; see :mod:`asrbuild.architectures.original`.
WORKER = "asrbuild.architectures.torch_export.worker"
