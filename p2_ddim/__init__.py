"""Problem 2: DDIM sampling of faces."""

from p2_ddim.interpolate import lerp, slerp
from p2_ddim.sampling import invert_faces, sample_faces, to_pictures
from p2_ddim.unet import load_face_unet

__all__ = ["invert_faces", "lerp", "load_face_unet", "sample_faces", "slerp", "to_pictures"]
