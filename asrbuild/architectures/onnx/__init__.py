"""ONNX: any network in an ONNX file whose ops have a Core ML form."""

#: Runs the original in a process; see :mod:`asrbuild.architectures.original`.
WORKER = "asrbuild.architectures.onnx.worker"
