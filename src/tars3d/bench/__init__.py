"""`tars3d bench`: figures that the documentation reports, each by one command."""
