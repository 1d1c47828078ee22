"""INT8 with PyTorch's own fake-quantise ops: fold, insert quantisers, calibrate, fine-tune, export to ONNX, report."""
