"""Settings that only the mesh systems (SoftRas, CMR) have; `config` puts them into its ModelConfig and Stage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MeshNetworks:
    """Sizes of the mesh systems' networks. Defaults are the published ones (docs/methods.md, Mesh systems)."""

    subdivisions: int = 3
    """Of the icosahedron that is deformed: 3 gives 642 vertices and 1280 faces."""
    radius: float = 0.5
    """Of the sphere that CMR's mean shape starts as, world units."""
    template: str | None = None
    """File of a closed mesh onto which the sphere's vertices are pushed first; None keeps the sphere."""
    channels: tuple[int, ...] = (64, 128, 256)
    """SoftRas: channels of the encoder's convolutions, each of which halves the picture."""
    encoder_hidden: int = 1024
    """SoftRas: width of the encoder's two hidden linear layers."""
    decoder_hidden: tuple[int, ...] = (1024, 2048)
    """SoftRas: widths of the decoder's hidden layers."""
    reduced: int = 256
    """CMR: channels after the ResNet's features are halved once more."""
    flow_grid: tuple[int, ...] = (4, 8)
    """CMR: rows and columns at which the texture flow's decoder starts; each later level doubles them."""
    flow_channels: tuple[int, ...] = (256, 128, 64, 32, 16, 8)
    """CMR: channels of the texture flow's decoder, level by level."""


@dataclass(frozen=True)
class MeshTerms:
    """How a stage of a mesh system renders, and the weights of its losses; a term of weight 0 is not computed."""

    sigma: float = 1e-4
    """Softness of the rasteriser, squared screen units (the picture spans -1 to 1)."""
    iou: float = 0.0
    """SoftRas: one minus the intersection over union of silhouettes."""
    laplacian: float = 0.0
    """SoftRas: squared distance of each vertex from its neighbours' mean."""
    flatten: float = 0.0
    """SoftRas: bending along each edge."""
    mask: float = 0.0
    """CMR: squared error of the silhouette."""
    camera: float = 0.0
    """CMR: error of the predicted weak-perspective camera."""
    displacement: float = 0.0
    """CMR: mean length of the deformation, in radii of the sphere."""
    smoothness: float = 0.0
    """CMR: mean length of the cotangent Laplacian (its "triangle" term), in radii of the sphere."""
    texture: float = 0.0
    """CMR: difference of the painted mesh's picture: perceptual where `perceptual` is given, else of colours."""
    texture_inside: float = 0.0
    """CMR: colours must be taken from inside the mask (its "texture-dt" term)."""
    perceptual: str | None = None
    """CMR: file of LPIPS-AlexNet weights (.safetensors); None compares colours."""
