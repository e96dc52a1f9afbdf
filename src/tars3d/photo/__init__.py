"""What the picture itself still tells once it is reconstructed: its camera, its colours, and a shape closer to its outline.

`camera` finds the camera by the silhouette, `texture` projects the picture onto the surface, `refine` moves the shape code.
`reconstruct` and `reconstruct_files` call them.
"""
