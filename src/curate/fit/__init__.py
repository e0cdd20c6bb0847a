"""Weights of sources and worths of buckets out of tables of small runs."""
