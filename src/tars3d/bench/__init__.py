"""`tars3d bench`: figures that the documentation reports, each by one command.

`speed` sets the published system, written down plainly, beside this one; `correspondence` marks what correspondences carry; `tables`
trains and measures the rows of the paper's tables. The plain code is part of the package, not only of the tests: whoever installed
`tars3d` can run the comparison.
"""
