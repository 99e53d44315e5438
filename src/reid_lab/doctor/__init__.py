"""Find the problems of a data set before training.

reid-lab doctor dataset=csv dataset.root=/data/mine
"""
