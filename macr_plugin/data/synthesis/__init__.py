"""Motion-blurred pairs made from sharp photographs: camera paths, what they do to a picture, and sets of such pairs."""
