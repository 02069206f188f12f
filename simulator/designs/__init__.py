"""The shipped designs, one folder each; `simulator.designs.registry` finds them and those of other packages."""
