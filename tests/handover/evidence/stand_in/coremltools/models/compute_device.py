"""The classes of compute devices."""


class MLComputeDevice:
    pass


class MLCPUComputeDevice(MLComputeDevice):
    pass


class MLGPUComputeDevice(MLComputeDevice):
    pass


class MLNeuralEngineComputeDevice(MLComputeDevice):
    total_core_count = 16
