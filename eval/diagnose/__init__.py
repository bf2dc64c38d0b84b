"""The diagnosis: failure signatures recognised by measurement. See `__main__`."""
