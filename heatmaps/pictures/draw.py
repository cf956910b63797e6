"""Draw the pictures of heatmaps/README.md, on mannequins.

Usage: python heatmaps/pictures/draw.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vsam_datasets.mannequins import draw_mannequin
from vsam_heatmaps.blazepose import detection, landmarks
from vsam_heatmaps.blazepose.detection import decode_detections, letterbox
from vsam_heatmaps.blazepose.landmarks import decode_landmarks
from vsam_heatmaps.blazepose.regions import Region
from vsam_heatmaps.landmarks import PARTS, landmark_indices
from vsam_heatmaps.openvino_backend import OpenVinoPoseEstimator
from vsam_heatmaps.openvino_networks import OpenVinoNetworks
from vsam_heatmaps.overlays import caption, draw_skeleton, fit_tile, heat_overlay, write_picture
from vsam_heatmaps.pose_model import find_pose_model
from vsam_heatmaps.rendering import render_heatmaps

Image = NDArray[np.uint8]

HERE = Path(__file__).parent
WIDTH, HEIGHT = 200, 260
SEED = 5


def main() -> None:
    """Write both pictures."""
    write_picture(HERE / "way.jpg", way(draw_mannequin(1, SEED).photo))
    write_picture(HERE / "crops.jpg", crops())


def way(photo: Image) -> Image:
    """Show each step from a photo to its maps."""
    height, width = photo.shape[:2]
    networks = OpenVinoNetworks(find_pose_model(), precision="f32")
    frame = letterbox(width, height)
    seen = frame.cut(photo, detection.INPUT_SIDE, repeat_border=False)
    output = networks.detect(seen)
    people = decode_detections(output.boxes, output.logits, frame, min_confidence=0.5)
    region = people.region(0)
    view = region.cut(photo, landmarks.INPUT_SIDE, repeat_border=True)
    pose = decode_landmarks(*networks.find_landmarks(view), region)
    scale = np.array([width, height, 1, 1], np.float32)
    keypoints = pose.keypoints / scale
    maps = render_heatmaps(keypoints)
    in_view = keypoints.copy()
    in_view[:, :2] = region.from_photo(pose.keypoints[:, :2])
    chosen = ["head", "elbows", "knees"]
    rows = [
        [
            ("1 photo", photo),
            ("2 what the detector sees", seen),
            ("3 hip centre, scale, region", with_region(photo, people.points[0][:2], region)),
            ("4 what the landmarks see", view),
        ],
        [
            ("5 33 landmarks", draw_skeleton(photo, keypoints)),
            *(
                (f"6 map of the {name}", heat_overlay(photo, maps[list(PARTS).index(name)]))
                for name in chosen
            ),
        ],
    ]
    return np.vstack([row(tiles) for tiles in rows])


def crops() -> Image:
    """Show poses on crops, without and with the region network."""
    cuts = [("head cut off", 2), ("upper body", 3), ("hips to feet", 4), ("shoulders to hips", 14)]
    rows = []
    with OpenVinoPoseEstimator(crops=False) as plain, OpenVinoPoseEstimator() as ours:
        for name, estimator in (("MediaPipe's regions", plain), ("region network", ours)):
            tiles = []
            for cut, index in cuts:
                crop = cropped(cut, index)
                poses = estimator.estimate(crop)
                drawn = draw_skeleton(crop, poses.keypoints[0]) if len(poses) else crop
                tiles.append((f"{cut}: {name if len(poses) else 'nobody found'}", drawn))
            rows.append(row(tiles))
    return np.vstack(rows)


def cropped(cut: str, index: int) -> Image:
    """Crop a mannequin along its true joints."""
    drawn = draw_mannequin(index, SEED)
    mouth, shoulder, hip = (
        float(drawn.joints[list(landmark_indices([name])), 1].mean())
        for name in ("mouth_left", "left_shoulder", "left_hip")
    )
    neck, below = round((mouth + 2 * shoulder) / 3), round(hip + 0.15 * (hip - shoulder))
    top = {"upper body": 0, "hips to feet": 2 * round(hip) - below}.get(cut, neck)
    bottom = len(drawn.photo) if cut in ("head cut off", "hips to feet") else below
    return np.ascontiguousarray(drawn.photo[top:bottom])


def with_region(photo: Image, points: NDArray[np.float32], region: Region) -> Image:
    """Draw alignment points and region; the photo gets room for it."""
    room = round(max(photo.shape) * 0.25)
    canvas = cv2.copyMakeBorder(photo, *[room] * 4, cv2.BORDER_CONSTANT, value=(235, 235, 235))
    corners = region.to_photo(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)) + room
    cv2.polylines(canvas, [corners.round().astype(int)], True, (220, 0, 90), 4, cv2.LINE_AA)
    hip, scale = ((points + room).round().astype(int)).tolist()
    cv2.line(canvas, hip, scale, (220, 0, 90), 3, cv2.LINE_AA)
    cv2.circle(canvas, hip, 8, (220, 0, 90), -1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def row(tiles: list[tuple[str, Image]]) -> Image:
    """Set pictures side by side, each with a caption."""
    return np.hstack(
        [np.vstack([caption(WIDTH, text), fit_tile(image, WIDTH, HEIGHT)]) for text, image in tiles]
    )


if __name__ == "__main__":
    main()
