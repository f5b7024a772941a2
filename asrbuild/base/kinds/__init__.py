"""The kind of a file or folder by its content; its name decides nothing.

A command that reads a file calls :func:`require` first, so that a file of another kind is one error
that names the kind, the reason why it cannot be used in this place, and the alternative. At most a
few kB are read, or the outline of a protobuf message; a pipe or a device is never opened.
TensorFlow, coremltools and numpy are not needed.

Sources of the signatures: TensorFlow's ``graph.proto``, ``meta_graph.proto``,
``saved_model.proto``, ``memmapped_file_system.proto`` and LevelDB's ``table_format.md``; Core ML's
``Model.proto``; ``onnx.proto``; TensorFlow Lite's ``schema.fbs``; PyTorch's ``serialization.py``;
Git LFS's ``docs/spec.md``; the container formats' own specifications.
"""
