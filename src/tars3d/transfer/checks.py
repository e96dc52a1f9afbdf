"""What a transfer refuses before any work: numbers that mean nothing, and results that would overwrite what is read. Called by `session`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tars3d.arguments import OutlineMode, check_choice, check_folder, check_overwriting, check_seed
from tars3d.errors import UserError
from tars3d.export import MAP_BESIDE, canonical_path
from tars3d.rules import WEIGHTS, check_distances, check_weights
from tars3d.transfer import TransferSettings

MESHES = (".glb", ".gltf", ".obj", ".ply")
DISTANCES = ("max_distance", "max_cycle")


def check_settings(settings: TransferSettings) -> None:
    """Refuse weights, distances and seeds that are no numbers of 0 or more (a distance may be inf: no limit), and two reconstructions of the source."""
    check_seed(settings.seed)
    check_folder(settings.out)
    check_choice(OutlineMode, outline=settings.outline)
    check_weights({name: getattr(settings, name) for name in WEIGHTS})
    check_distances({name: getattr(settings, name) for name in DISTANCES})
    if settings.reconstruction is not None and settings.source_image is not None:
        raise UserError("--reconstruction and --source-image: give one of them")


def check_targets(targets: Sequence[Path], command: str, *, together: bool = False) -> None:
    """Refuse targets of which none is there, those that share a name, and meshes among the pictures of one object (`together`)."""
    if not targets:
        raise UserError(f"transfer {command}: no target given; name pictures or reconstructions after the source")
    if not any(target.is_file() for target in targets):
        raise UserError(f"{targets[0]}: no such file; check the path")
    if together:
        for target in targets:
            if is_mesh(target):
                raise UserError(f"{target}: --together takes pictures of one object; leave the mesh or the option out")
        return
    named = Counter(target.stem for target in targets)
    for target in targets:
        if named[target.stem] > 1:
            raise UserError(f"{target}: two targets of this name would write the same files; rename one")


def is_mesh(target: Path) -> bool:
    """Whether a target is read as a mesh, not as a picture."""
    return target.suffix.lower() in MESHES


def check_results(settings: TransferSettings, targets: Sequence[Path], command: str, others: Iterable[Path]) -> None:
    """Refuse targets whose results would overwrite a file that is read, or the map beside it.

    Args:
        others: what is read besides the targets and what the settings name.
    """
    named = (settings.reconstruction, settings.source_image)
    read = [*others, *targets, *(path for path in named if path is not None)]
    maps = [canonical_path(path) for path in read if path.suffix.lower() in MAP_BESIDE]
    results = {}
    for target in targets:
        mesh = settings.out / f"{target.stem}_{command}.glb"
        results[target] = (mesh, canonical_path(mesh), mesh.with_suffix(".png"), mesh.with_suffix(".json"))
    check_overwriting([path for path in (*read, *maps) if path.is_file()], results)
