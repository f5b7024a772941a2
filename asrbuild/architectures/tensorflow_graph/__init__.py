"""TensorFlow: any frozen graph or SavedModel, cut at operations that coremltools cannot convert."""

#: Runs the original in a process; see :mod:`asrbuild.architectures.original`.
WORKER = "asrbuild.architectures.tensorflow_graph.worker"
