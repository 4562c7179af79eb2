"""A package, since other rooms have tests of the same names."""
