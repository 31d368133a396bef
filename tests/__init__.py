"""replicad's tests; they mirror the package, with tests of the whole beside them (lab, packaging, plants)."""
