"""A GLB opened by three.js, the viewer behind most web pages, in headless Chromium; its screenshot as an array.

    npm install --no-save three          # in the repository's root, or name its folder with TARS3D_THREE
    python tests/viewer.py chair.glb chair.png [--azimuth 30] [--size 384]

writes three.js' picture beside that of our own rasteriser. `test_viewer` compares the two. Needs Chromium on the PATH.
"""

import argparse
import functools
import http.server
import io
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from tars3d.geometry.views import orbit_camera
from tars3d.transfer.painted import read_painted

PAGE = """<!doctype html><body style="margin:0;background:#fff"><script type="importmap">
{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
const renderer = new THREE.WebGLRenderer({antialias: true, preserveDrawingBuffer: true});
renderer.setSize(SIZE, SIZE);
document.body.appendChild(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color(0xffffff);
scene.add(new THREE.AmbientLight(0xffffff, Math.PI));  // light of pi from everywhere shows the material's own colour
const camera = new THREE.PerspectiveCamera(FOV, 1, 0.01, 100);
camera.position.set(EYE);
camera.lookAt(0, 0, 0);
const done = new THREE.Group();
new GLTFLoader().load("/model.glb", (found) => {
  scene.add(found.scene);
  renderer.render(scene, camera);
  document.title = "opened";
}, undefined, (error) => { document.title = "failed: " + error; });
</script></body>"""


def three_folder() -> Path | None:
    """Where the npm package three lies, if it does."""
    places = [os.environ.get("TARS3D_THREE"), Path(__file__).parent.parent / "node_modules" / "three"]
    return next(
        (Path(place) for place in places if place and (Path(place) / "build" / "three.module.js").exists()), None
    )


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def seen_by_three(glb: Path, size: int = 384, azimuth: float = 30, elevation: float = 20) -> np.ndarray:
    """three.js' picture of a GLB from `orbit_camera`'s place, evenly lit: uint8 [size, size, 3]."""
    three, browser = three_folder(), chromium()
    assert three is not None
    assert browser is not None
    intrinsics, extrinsics = orbit_camera(azimuth, elevation, size)
    eye = -extrinsics[:, :3].T @ extrinsics[:, 3]
    fov = 2 * np.degrees(np.arctan(size / 2 / intrinsics[1, 1]))
    page = PAGE.replace("SIZE", str(size)).replace("FOV", f"{fov:.9f}").replace("EYE", ", ".join(map(str, eye)))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(three / path.removeprefix("/three/")) if path.startswith("/three/") else str(glb)

        def do_GET(self) -> None:
            if self.path != "/":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *values) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        command = [
            browser, "--headless", "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--force-device-scale-factor=1", f"--user-data-dir={folder}/profile",
            f"--window-size={size},{size}", "--virtual-time-budget=60000", f"--screenshot={picture}",
            f"http://127.0.0.1:{server.server_port}/",
        ]  # fmt: skip
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=240)
        finally:
            server.shutdown()
        if not picture.exists():
            raise RuntimeError(f"chromium made no picture: {found.stderr[-2000:]}")
        return np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))[:size, :size]


def seen_by_us(glb: Path, size: int = 384, azimuth: float = 30, elevation: float = 20) -> np.ndarray:
    """The same by our rasteriser: the file's own colours, vertex colours or texture, without light."""
    return read_painted(glb).view(azimuth, elevation, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glb", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--azimuth", type=float, default=30)
    parser.add_argument("--size", type=int, default=384)
    options = parser.parse_args()
    theirs = seen_by_three(options.glb, options.size, options.azimuth)
    ours = seen_by_us(options.glb, options.size, options.azimuth)
    Image.fromarray(np.hstack([theirs, ours])).save(options.out)
    gap = np.abs(theirs.astype(int) - ours)
    far = 100 * (gap.max(axis=2) > 40).mean()
    print(f"{options.glb}: mean difference {gap.mean():.2f} of 255, {far:.2f}% of pixels over 40")


if __name__ == "__main__":
    main()
