"""Collections drawn from 3D objects, for `tars3d data render`: meshes, materials, cameras, and Mitsuba."""
