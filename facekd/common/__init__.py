"""The ground floor: what every package uses and nothing of faces, models or methods."""
