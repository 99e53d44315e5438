"""Rows of embeddings: their lengths, pooling, and exact search; numpy alone, for all packages."""
