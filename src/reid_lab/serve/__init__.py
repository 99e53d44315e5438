"""An HTTP service over an exported network: FastAPI, onnxruntime and SQLite, no torch.

reid-lab serve --model exported/ --people people.sqlite --gallery gallery/
"""
