"""What a student learns from: its margin softmax, a teacher, and the losses that compare the two."""
