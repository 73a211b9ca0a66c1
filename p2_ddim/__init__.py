"""Problem 2: DDIM sampling of faces."""

from p2_ddim.sampling import invert_faces, lerp, sample_faces, slerp, to_pictures
from p2_ddim.unet import load_face_unet

__all__ = ["invert_faces", "lerp", "load_face_unet", "sample_faces", "slerp", "to_pictures"]
