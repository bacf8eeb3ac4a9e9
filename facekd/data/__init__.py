"""Sources of faces, alignment, augmentation, verification sets, and the loader that feeds training."""
