"""ONNX files: read before onnxruntime sees them, given another last layer, and run."""
