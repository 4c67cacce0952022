import numpy as np
import numpy.typing as npt

version: str
built_against_torch: str
cuda_build: str

def cpu_capability() -> str: ...
def best_cpu_capability() -> str: ...
def confusion_matrix(
    prediction: npt.NDArray[np.integer],
    target: npt.NDArray[np.integer],
    ignore_index: int,
    matrix: npt.NDArray[np.int64],
) -> int: ...
def decode_palette(
    colors: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8], indices: npt.NDArray[np.uint8]
) -> int: ...
