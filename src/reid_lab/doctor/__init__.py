"""What is wrong with a data set, before it is trained on.

python -m reid_lab.doctor dataset=csv dataset.root=/data/mine
"""
