"""A gallery to keep: built from a checkpoint and images, searched, and planned for its growth.

reid-lab gallery build|add|search|info|plan --help
"""
