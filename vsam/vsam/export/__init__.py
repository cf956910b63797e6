"""Export: a trained model as a network for OpenVINO, ONNX Runtime or `torch.export`."""
