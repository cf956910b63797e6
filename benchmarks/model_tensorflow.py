"""Time the published model in TensorFlow whenever a line comes; `model.py runtimes` starts it.

Needs an environment of its own with tensorflow and tf_keras, and none of vsam's packages.

Usage: python benchmarks/model_tensorflow.py WEIGHTS.h5 BATCH_SIZE
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "vsam" / "parity"))
import make_reference


def main() -> None:
    """Load, warm up, then measure one batch a line."""
    import tensorflow as tf

    model = make_reference.build()
    model.load_weights(sys.argv[1], by_name=True)
    run = tf.function(model)
    batch = tf.constant(
        np.random.default_rng(0).uniform(-120, 130, (int(sys.argv[2]), 224, 224, 3)), tf.float32
    )
    for _ in range(2):
        run(batch)[0].numpy()
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for output in run(batch):
            output.numpy()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
