"""What `tars3d data check` looks for: pictures and masks that cannot be used, and cameras that do not explain them."""
