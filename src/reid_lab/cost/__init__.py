"""What a model costs on this machine, exit by exit, without training or data.

reid-lab cost +experiment=dare_market
"""
