"""Configuration, paths and command-line manners: the small things every stage shares, one module each."""
