"""ONNX: any network in an ONNX file whose ops have a Core ML form."""
