"""Golden images that no option of mkfs.erofs gives: made from others by hand, and mounted by Linux all the same."""
CRAFTED = []
