"""What a student learns from: the margin softmax, and the terms that carry a teacher's knowledge over."""
