"""Measure the costs of a model on this machine, exit by exit, without training or data.

reid-lab cost +experiment=dare_market
"""
