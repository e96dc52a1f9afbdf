"""What every test runs under: annotated shapes and types are checked at run time, one thread, no network.

The hook must come before the first import of tars3d, so nothing of it is imported here.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs the hub must bring its own stand-in
os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers of pytest-xdist share the cores
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

import pretended_gpu

torch.set_num_threads(1)
# PyTorch takes one kind of accelerator: backward passes on a real one would find no stream
if not torch.cuda.is_available():
    pretended_gpu.device()  # before the first backward pass of the process, which counts the devices there are

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for
install_import_hook("tars3d", f"{__name__}.check_types")
