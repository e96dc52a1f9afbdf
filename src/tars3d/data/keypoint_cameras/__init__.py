"""Cameras of a collection from its keypoints and masks, for `tars3d data cameras`."""
