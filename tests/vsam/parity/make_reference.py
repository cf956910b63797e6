"""Run the published model in TensorFlow and store what it says, for `test_parity.py`.

Needs an environment of its own: pip install tensorflow tf_keras pillow. What the tests compare with
was made by

    python tests/vsam/parity/make_reference.py --seed 1 --out tests/vsam/parity/reference.npz

With `--photos FOLDER` it takes the first photos of a folder, and with `--weights FILE.h5` it saves
the weights as well: `benchmarks/keras_parity.py` compares on those.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
import published_model as published


def build():
    """Build the published model; its outputs are scores and the attention map."""
    from tf_keras import Model, layers

    image = layers.Input((224, 224, 3), name="input1")
    x, ends = image, {}
    for block, outputs in enumerate(published.BLOCKS, start=1):
        if block == 5:
            x, attention = attend(ends[2], ends[3], ends[4])
        for number, channels in enumerate(outputs, start=1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(channels, 3, padding="same", activation="relu", name=name)(x)
        ends[block] = x = layers.MaxPooling2D(2, 2, name=f"block{block}_pool")(x)
    scores = []
    for convolution, dense, count, activation in (
        ("conv2d_1", "out_1_dense", published.CATEGORIES, "softmax"),
        ("conv2d_2", "out_3_dense", published.ATTRIBUTES, "sigmoid"),
    ):
        y = layers.Conv2D(1024, 3, padding="same", activation="relu", name=convolution)(x)
        y = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(y))
        scores.append(layers.Activation(activation)(layers.Dense(count, name=dense)(y)))
    return Model(image, [*scores, attention])


def attend(b2, b3, b4):
    """Add attended features of three blocks to the last; give also the map."""
    from tf_keras import layers

    blocks = layers.Concatenate()([b2, layers.Lambda(enlarge)(b3), layers.Lambda(enlarge)(b4)])
    fused = layers.Conv2D(512, 1, activation="relu", name="conv_1x1x512")(blocks)
    mean, most = layers.Lambda(channel_mean)(fused), layers.Lambda(channel_maximum)(fused)
    attention = layers.Conv2D(1, 7, padding="same", activation="sigmoid", name="conv_7x7x1")(
        layers.Concatenate()([mean, most])
    )
    pooled = layers.AveragePooling2D(2, strides=4)(layers.Multiply()([fused, attention]))
    return layers.Add()([b4, layers.Lambda(lambda f: 20 * f)(pooled)]), attention


def enlarge(x):
    """Bring a block's output to the side of the second's."""
    import tensorflow as tf

    return tf.compat.v1.image.resize_bilinear(x, (56, 56), align_corners=True)


def channel_mean(x):
    """Average over channels."""
    import tensorflow as tf

    return tf.reduce_mean(x, axis=-1, keepdims=True)


def channel_maximum(x):
    """Take the largest of the channels."""
    import tensorflow as tf

    return tf.reduce_max(x, axis=-1, keepdims=True)


def losses() -> dict[str, np.ndarray]:
    """Compute each term of the loss and its gradient with respect to what the network gives."""
    import tensorflow as tf

    given = {name: tf.constant(array) for name, array in published.loss_inputs().items()}

    def category(logits):
        entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(given["category"], logits)
        weights = tf.gather(given["class_weights"], given["category"])
        return tf.reduce_sum(weights * entropies) / tf.reduce_sum(weights)

    def attributes(logits):
        true = given["attributes"]
        sure = tf.sigmoid(logits) * true + (1 - tf.sigmoid(logits)) * (1 - true)
        return tf.reduce_mean(tf.reduce_sum(-((1 - sure) ** 2) * tf.math.log(sure), axis=1))

    def attention(maps):
        flat = tf.nn.softmax(tf.reshape(maps, (len(maps), -1)))
        wanted = tf.reshape(given["heatmap"], flat.shape)
        wanted /= tf.reduce_sum(wanted, axis=1, keepdims=True)
        return tf.reduce_mean(tf.sqrt(tf.reduce_sum((wanted - flat) ** 2, axis=1)))

    found = {}
    for term, (function, name) in {
        "category": (category, "category_logits"),
        "attributes": (attributes, "attribute_logits"),
        "attention": (attention, "attention"),
    }.items():
        with tf.GradientTape() as tape:
            tape.watch(given[name])
            value = function(given[name])
        found |= {f"loss_{term}": value.numpy()}
        found |= {f"gradient_{term}": tape.gradient(value, given[name]).numpy()}
    return found


def main() -> None:
    """Make the reference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    from PIL import Image

    weights = published.draw_weights(options.seed)
    model = build()
    for name, arrays in weights.items():
        model.get_layer(name).set_weights([arrays["kernel"], arrays["bias"]])
    with tempfile.TemporaryDirectory() as folder:
        saved = options.weights or Path(folder) / "weights.h5"
        model.save_weights(saved)
        layout = published.describe_file(saved)
    if options.photos:
        paths = sorted(options.photos.iterdir())[: options.count]
        names, images = [path.name for path in paths], [Image.open(path) for path in paths]
    else:
        names = [f"{width}x{height}.png" for width, height in published.PHOTO_SIZES]
        images = [Image.fromarray(published.draw_photo(*size)) for size in published.PHOTO_SIZES]
    inputs = np.stack([published.preprocess(image) for image in images])
    categories, attributes, attention = model.predict(inputs, batch_size=4)
    hashes = [hashlib.sha256(one.tobytes()).hexdigest() for one in inputs]
    np.savez_compressed(
        options.out,
        seed=options.seed,
        names=names,
        inputs=hashes,
        categories=categories,
        attributes=attributes,
        attention=attention[..., 0],
        layout=layout,
        **losses(),
    )


if __name__ == "__main__":
    main()
