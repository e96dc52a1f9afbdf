"""The published system written down plainly, and what measures this project against it. `cli.bench_speed` calls `speed`.

The plain code is part of the package, not only of the tests: whoever installed `tars3d` can run the comparison.
"""
