"""A checkpoint as ONNX: the whole network, and a file for each exit that can be run in a chain.

reid-lab export --help
"""
