"""What MediaPipe does around its two pose networks, written out: photo to region to keypoints.

The networks are BlazePose's (Bazarevsky et al., 2020): a detector that finds people in the whole
photo, and a landmark network that reads one person in an upright square region around their hips.
The constants are those of MediaPipe's graphs (`mediapipe/tasks/cc/vision/pose_detector`,
`pose_landmarker` and `mediapipe/modules/pose_landmark`), whose results this package reproduces.
"""
