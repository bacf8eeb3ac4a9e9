"""The layouts of public checkpoints, one file each: names, geometry, input, and the network here that they fit."""
