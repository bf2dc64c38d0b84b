"""Backbones: frozen networks, formulas, and features that exist already.

`registry` lists the kinds that there are, `chosen` reads which of them a configuration names, and `check` finds
settings that cannot work. Each kind is a module of its own, which is imported only when its class is asked for.
"""
