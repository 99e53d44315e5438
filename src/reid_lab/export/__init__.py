"""Export a checkpoint to ONNX: the whole network, and one file per exit to run in a chain.

reid-lab export --help
"""
