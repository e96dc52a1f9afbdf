"""What a picture becomes (`reconstruction`), and what it still tells then: its camera, its colours, and a shape closer to its outline.

`view` frames the picture for a model, `camera` finds the camera by the silhouette, `cut_off` how far an object goes on outside its picture,
`texture` and `colors` project the picture onto the surface, `fitting` moves the shape code by the steps of `refine`. `reconstruct` and
`reconstruct_files` call them.
"""
