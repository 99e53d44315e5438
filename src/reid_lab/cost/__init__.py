"""What a model costs on this machine, exit by exit, without training or data.

python -m reid_lab.cost +experiment=dare_market
"""
