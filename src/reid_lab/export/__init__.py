"""A checkpoint as ONNX: the whole network, and a file for each exit that can be run in a chain.

python -m reid_lab.export --help
"""
