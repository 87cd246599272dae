"""Codes, images, files and text: what every other part builds on, and nothing of Milvus or torch."""
