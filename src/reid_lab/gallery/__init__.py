"""A saved gallery: built from a checkpoint and images, searched, and planned for growth.

reid-lab gallery build|add|search|info|plan --help
"""
