"""A bill of materials: the packages and store paths of an image, by layer, as SPDX and CycloneDX write them."""
