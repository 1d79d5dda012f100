"""What is written and read again: records, manifests, claims, published numbers, as pydantic types.

A file is checked here when it is read, and what is read is then in today's form. Nothing here
imports torch or mlflow.
"""
