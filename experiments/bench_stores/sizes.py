"""Sizes of the benchmark: images in a store and queries per search."""

from __future__ import annotations

DIM = 128  # numbers of an embedding
QUERIES, TOP = 100, 10  # queries that are searched together; images of each list
ONE = 5  # queries that are searched one by one
BATCH = 1000  # images that are sent to Milvus at a time
STEP = 10_000  # images that are made at a time
COLLECTION = "people"
