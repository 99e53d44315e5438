"""What is wrong with a data set, before it is trained on.

reid-lab doctor dataset=csv dataset.root=/data/mine
"""
